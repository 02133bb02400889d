"""Unit decoders by name, with their configuration class, builder and truth reader.

To add a decoder, for a known or a new unit type, implement `UnitDecoder` in a new file and add an
entry to `DECODERS`. A unit type without decoder is not an error: its references are returned
undecoded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from deixis.batch import TruthReader
from deixis.errors import ModelError
from deixis.models.decoders.box import BoxDecoder
from deixis.models.decoders.depth import DepthConfig, DepthDecoder
from deixis.models.decoders.detr import DetrBoxDecoder, DetrMaskDecoder
from deixis.models.decoders.interface import AnyDecoder
from deixis.models.decoders.keypoints import SKELETONS, KeypointConfig, KeypointDecoder
from deixis.models.decoders.location import LocationConfig, LocationDecoder
from deixis.models.decoders.mask import MaskDecoder
from deixis.models.decoders.prompted import ImageFrame, PromptedConfig, build_prompted
from deixis.models.decoders.reading import DepthReader, FramedMaskReader, KeypointReader
from deixis.models.decoders.trunk import DecoderConfig
from deixis.models.losses.scoring import UNIT_WEIGHTS
from deixis.structures import UnitType


@runtime_checkable
class DecoderFields(Protocol):
    """A decoder's configuration: a dataclass of plain data."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The properties of a model that the builders of decoders need.

    Args:
        language: Channels of hidden states.
        pixels: Channels of the map from which masks are computed.
        pyramid: Channels of the vision encoder's maps, from fine to coarse.
        proposals: Whether cells propose boxes and masks, from which a new decoder starts.
        loss_weights: Loss weights of the model's configuration, by name.
    """

    language: int
    pixels: int
    pyramid: tuple[int, ...] = ()
    proposals: bool = False
    loss_weights: Mapping[str, float] = field(default_factory=lambda: UNIT_WEIGHTS)


@dataclass(frozen=True, slots=True)
class TruthGrids:
    """Sides of the grids at which truth is read: of the pixel map, and of mask targets."""

    pixels: int
    masks: int


@dataclass(frozen=True, slots=True)
class DecoderKind(Generic[C]):
    """One kind of decoder.

    Args:
        unit: The unit type that it decodes.
        config: Its configuration class.
        build: Builds the decoder.
        reader: Builds the reader of its truth. None for decoders that read the boxes or masks of
            `deixis.batch.References`.
        cell_width: Returns the channels of the cells that it attends to; None for any number.
        frame: Returns its frame, for decoders that encode images themselves.

    Raises:
        ModelError: ``reader`` is None, and the unit type is neither box nor mask.
    """

    unit: str
    config: type[C]
    build: Callable[[C, Surroundings], AnyDecoder]
    reader: Callable[[C, TruthGrids], TruthReader] | None = None
    cell_width: Callable[[C], int | None] = lambda _: None
    frame: Callable[[C], ImageFrame] | None = None

    def __post_init__(self) -> None:
        if self.reader is None and self.unit not in {UnitType.BOX, UnitType.MASK}:
            raise ModelError(
                f"{self.config.__name__}, a decoder of units of type {self.unit!r}: expected a "
                "reader of their truth, got None: it would not learn from any data"
            )


def _started(
    decoder: BoxDecoder | MaskDecoder | KeypointDecoder, around: Surroundings
) -> AnyDecoder:
    """Initialise a new decoder to return proposals unchanged, if the model has proposals."""
    if around.proposals and decoder.config.anchored:
        decoder.start_from_proposals()
    return decoder


def _boxes(config: DecoderConfig, around: Surroundings) -> AnyDecoder:
    weights = around.loss_weights
    if config.design == "detr":
        return DetrBoxDecoder(config, around.language, around.pyramid, weights=weights)
    return _started(BoxDecoder(config, around.language, weights=weights), around)


def _masks(config: DecoderConfig, around: Surroundings) -> AnyDecoder:
    weights = around.loss_weights
    if config.design == "detr":
        return DetrMaskDecoder(config, around.language, around.pixels, weights=weights)
    return _started(MaskDecoder(config, around.language, around.pixels, weights=weights), around)


def _keypoints(config: KeypointConfig, around: Surroundings) -> AnyDecoder:
    return _started(KeypointDecoder(config, around.language, around.pyramid), around)


DECODERS: dict[str, DecoderKind[Any]] = {
    "box": DecoderKind(
        UnitType.BOX.value,
        DecoderConfig,
        _boxes,
        # decoders of the design detr attend to the pyramid
        cell_width=lambda config: None if config.design == "detr" else config.width,
    ),
    "mask": DecoderKind(
        UnitType.MASK.value, DecoderConfig, _masks, cell_width=lambda config: config.width
    ),
    "keypoint": DecoderKind(
        UnitType.KEYPOINT.value,
        KeypointConfig,
        _keypoints,
        reader=lambda config, _: KeypointReader(SKELETONS[config.skeleton].names),
        cell_width=lambda config: None if config.design == "detr" else config.width,
    ),
    "depth": DecoderKind(
        UnitType.DEPTH.value,
        DepthConfig,
        lambda config, around: DepthDecoder(config, around.language, around.pixels),
        reader=lambda _, grids: DepthReader(grids.pixels),
        cell_width=lambda config: config.width,
    ),
    # u-LLaVA's boxes from hidden states alone
    "location": DecoderKind(
        UnitType.BOX.value,
        LocationConfig,
        lambda config, around: LocationDecoder(config, around.language),
    ),
    # masks by SAM or SAM 2
    "segmenter": DecoderKind(
        UnitType.MASK.value,
        PromptedConfig,
        lambda config, around: build_prompted(config, around.language),
        reader=lambda config, grids: FramedMaskReader(config.frame, grids.masks),
        frame=lambda config: config.frame,
    ),
}
"""Every kind of decoder, by its name in a model's ``decoders``."""


def decoder_kind(name: str) -> DecoderKind[Any]:
    """Return the kind of decoder with a name.

    Raises:
        ModelError: No decoder has this name.
    """
    if name not in DECODERS:
        raise ModelError(f"unit decoder {name!r}: expected one of {sorted(DECODERS)}")
    return DECODERS[name]


def decoder_config(name: str) -> type:
    """Return the configuration class of a decoder.

    Raises:
        ModelError: No decoder has this name.
    """
    config: type = decoder_kind(name).config
    return config


@dataclass(frozen=True, slots=True)
class NamedDecoder(Generic[C]):
    """The name, kind and configuration of a decoder that is not built yet."""

    name: str
    kind: DecoderKind[C]
    config: C

    @classmethod
    def read(cls, name: str, fields: Mapping[str, Any]) -> "NamedDecoder[C]":
        """Read a decoder's configuration from plain data.

        Raises:
            ModelError: No decoder has this name, or a field is unknown or invalid.
        """
        kind = decoder_kind(name)
        make: Callable[..., C] = kind.config
        try:
            return cls(name, kind, make(**fields))
        except TypeError as error:
            raise ModelError(f"unit decoder {name!r}: {error}") from error

    @property
    def part(self) -> str:
        """The name of the decoder as a part of a model."""
        return f"{self.kind.unit}_decoder"

    def build(self, around: Surroundings) -> AnyDecoder:
        """Build the decoder with random weights.

        Raises:
            ModelError: The decoder does not fit the model, or its unit type is not that of its kind.
        """
        decoder = self.kind.build(self.config, around)
        if decoder.unit != self.kind.unit:
            raise ModelError(
                f"decoder {self.name!r}: expected units of type {self.kind.unit}, as registered in "
                f"DECODERS, got {decoder.unit}"
            )
        return decoder

    def reader(self, grids: TruthGrids) -> TruthReader | None:
        """Build the reader of its truth; None if it reads the batch's boxes or masks."""
        return None if self.kind.reader is None else self.kind.reader(self.config, grids)
