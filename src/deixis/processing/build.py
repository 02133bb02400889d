"""The processor that fits a model's sizes."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from deixis.batch import TruthReader
from deixis.notation import RegionForm, notation_named
from deixis.processing.describer import TextEncoderTokenizer
from deixis.processing.processor import ImageFrame, Processor, VideoForm
from deixis.processing.tokenizer import MarkedTokenizer


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
    def mask_grid(self) -> int:
        """Side at which masks are learned."""

    @property
    def cell_grid(self) -> int:
        """Side of the map that references attend to."""

    @property
    def truth_readers(self) -> Mapping[str, TruthReader]:
        """What reads the truth of decoders from units, by unit type."""

    @property
    def image_frame(self) -> ImageFrame | None:
        """How a decoder that encodes images itself sees them, where there is one."""

    @property
    def region_forms(self) -> Mapping[str, RegionForm]:
        """How the regions of each type stand in a question, by `RegionType`."""

    @property
    def video_pooling(self) -> VideoForm | None:
        """How the model looks at videos; None where it takes none."""

    @property
    def aligns(self) -> bool:
        """Whether the model's region encoder is aligned by itself."""

    notation: str
    concepts: list[str]


def build_processor(
    sizes: ModelSizes, tokenizer: MarkedTokenizer, describer: TextEncoderTokenizer | None = None
) -> Processor:
    """Build the processor for a model of these sizes.

    Args:
        sizes: The model's configuration.
        tokenizer: The language model's.
        describer: That of its encoder of descriptions, where it is another.

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
