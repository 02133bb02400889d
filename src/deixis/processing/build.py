"""The processor that fits a model's sizes."""

from typing import Protocol, runtime_checkable

from deixis.notation import Triplets
from deixis.processing.processor import Processor
from deixis.processing.tokenizer import MarkedTokenizer


@runtime_checkable
class ModelSizes(Protocol):
    """The numbers of a model's configuration that its processor needs."""

    @property
    def canvas(self) -> int:
        """Side of the canvas, in pixels."""

    @property
    def image_tokens(self) -> int:
        """Tokens that an image becomes."""

    @property
    def pixel_grid(self) -> int:
        """Side of the map that masks are cut from."""

    @property
    def cell_grid(self) -> int:
        """Side of the map that references attend to."""

    region_tokens: int
    concepts: list[str]


def build_processor(sizes: ModelSizes, tokenizer: MarkedTokenizer) -> Processor:
    """The processor for a model of these sizes."""
    return Processor(
        tokenizer,
        Triplets(),
        canvas=sizes.canvas,
        image_tokens=sizes.image_tokens,
        region_tokens=sizes.region_tokens,
        pixel_grid=sizes.pixel_grid,
        cell_grid=sizes.cell_grid,
        concepts=sizes.concepts,
    )
