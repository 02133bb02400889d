"""The processor that fits a model's sizes."""

from typing import Protocol

from deixis.notation import Triplets
from deixis.processing.processor import Processor
from deixis.processing.tokenizer import MarkedTokenizer


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

    region_tokens: int


def build_processor(sizes: ModelSizes, tokenizer: MarkedTokenizer) -> Processor:
    """The processor for a model of these sizes."""
    return Processor(
        tokenizer,
        Triplets(),
        canvas=sizes.canvas,
        image_tokens=sizes.image_tokens,
        region_tokens=sizes.region_tokens,
        pixel_grid=sizes.pixel_grid,
    )
