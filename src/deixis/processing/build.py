"""Build the processor for a model's configuration."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from deixis.batch import TruthReader
from deixis.notation import RegionForm, notation_named
from deixis.processing.describer import TextEncoderTokenizer
from deixis.processing.processor import ImageFrame, Processor, VideoForm
from deixis.processing.tokenizer import MarkedTokenizer


@runtime_checkable
class ModelSizes(Protocol):
    """The properties of a model's configuration that its processor needs."""

    @property
    def canvas(self) -> int:
        """Side of the canvas, in pixels."""

    @property
    def fill(self) -> tuple[int, int, int]:
        """Colour around an image on the canvas, red, green and blue."""

    @property
    def image_tokens(self) -> int:
        """Tokens per image."""

    @property
    def pixel_grid(self) -> int:
        """Side of the map from which masks are computed."""

    @property
    def mask_grid(self) -> int:
        """Side at which masks are learned."""

    @property
    def cell_grid(self) -> int:
        """Side of the map that references attend to."""

    @property
    def truth_readers(self) -> Mapping[str, TruthReader]:
        """Readers that turn units into the truth of decoders, by unit type."""

    @property
    def image_frame(self) -> ImageFrame | None:
        """The frame of the decoder that encodes images itself; None if there is no such decoder."""

    @property
    def region_forms(self) -> Mapping[str, RegionForm]:
        """How a question represents regions of each type, by `RegionType`."""

    @property
    def video_pooling(self) -> VideoForm | None:
        """How the model reads videos; None if it takes no videos."""

    @property
    def aligns(self) -> bool:
        """Whether the region encoder is aligned before the language model learns."""

    notation: str
    concepts: list[str]


def build_processor(
    sizes: ModelSizes, tokenizer: MarkedTokenizer, describer: TextEncoderTokenizer | None = None
) -> Processor:
    """Build the processor for a model of these sizes.

    Args:
        sizes: The model's configuration.
        tokenizer: The language model's tokenizer.
        describer: The tokenizer of a separate text encoder for descriptions.

    Raises:
        NotationError: The model's notation is unknown.
    """
    return Processor(
        tokenizer,
        notation_named(sizes.notation),
        canvas=sizes.canvas,
        fill=sizes.fill,
        image_tokens=sizes.image_tokens,
        regions=sizes.region_forms,
        pixel_grid=sizes.pixel_grid,
        mask_grid=sizes.mask_grid,
        cell_grid=sizes.cell_grid,
        concepts=sizes.concepts,
        truth_readers=sizes.truth_readers,
        image_frame=sizes.image_frame,
        describer=describer,
        video=sizes.video_pooling,
        aligns=sizes.aligns,
    )
