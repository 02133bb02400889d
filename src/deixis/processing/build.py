"""The processor that fits a model's sizes."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from deixis.errors import ModelError
from deixis.notation import Notation, Triplets
from deixis.processing.processor import MaskFrame, Processor
from deixis.processing.tokenizer import MarkedTokenizer

NOTATIONS: dict[str, Callable[[], Notation]] = {"triplets": Triplets}
"""Notations that a model's references can be routed from, by name."""


@runtime_checkable
class ModelSizes(Protocol):
    """The numbers of a model's configuration that its processor needs."""

    @property
    def canvas(self) -> int:
        """Side of the canvas, in pixels."""

    @property
    def fill(self) -> tuple[int, int, int]:
        """Colour around an image on the canvas, red, green and blue."""

    @property
    def image_tokens(self) -> int:
        """Tokens that an image becomes."""

    @property
    def pixel_grid(self) -> int:
        """Side of the map that masks are cut from."""

    @property
    def cell_grid(self) -> int:
        """Side of the map that references attend to."""

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """Keypoints of the bodies that are decoded; none without such a decoder."""

    @property
    def decodes_depth(self) -> bool:
        """Whether depth maps are decoded."""

    @property
    def mask_frame(self) -> MaskFrame | None:
        """How the model's segmenter sees images, where it has one."""

    region_tokens: int
    notation: str
    concepts: list[str]


def build_processor(sizes: ModelSizes, tokenizer: MarkedTokenizer) -> Processor:
    """Build the processor for a model of these sizes.

    Raises:
        ModelError: The model's notation is unknown.
    """
    if sizes.notation not in NOTATIONS:
        raise ModelError(f"unknown notation {sizes.notation!r}; expected one of {list(NOTATIONS)}")
    return Processor(
        tokenizer,
        NOTATIONS[sizes.notation](),
        canvas=sizes.canvas,
        fill=sizes.fill,
        image_tokens=sizes.image_tokens,
        region_tokens=sizes.region_tokens,
        pixel_grid=sizes.pixel_grid,
        cell_grid=sizes.cell_grid,
        concepts=sizes.concepts,
        keypoint_names=sizes.keypoint_names,
        decodes_depth=sizes.decodes_depth,
        mask_frame=sizes.mask_frame,
    )
