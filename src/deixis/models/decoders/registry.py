"""Unit decoders by name: what each is configured with, built by, and reads its truth with.

To add a decoder, for a unit type that deixis knows or for another one: write it in a file of its own, as
`UnitDecoder` has it, and give `DECODERS` an entry. A unit type without decoder is not an error: a
model may name any, and its references come back undecoded.
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
    """A decoder's configuration: any dataclass of plain data."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The model that a decoder is built into.

    Args:
        language: Channels of hidden states.
        pixels: Channels of the map that masks are cut from.
        pyramid: Channels of the vision encoder's own maps, from fine to coarse.
        proposals: Whether cells propose boxes and masks, which a fresh decoder starts from.
        loss_weights: Of the losses that the model's configuration weights.
    """

    language: int
    pixels: int
    pyramid: tuple[int, ...] = ()
    proposals: bool = False
    loss_weights: Mapping[str, float] = field(default_factory=lambda: UNIT_WEIGHTS)


@dataclass(frozen=True, slots=True)
class TruthGrids:
    """At how many cells a side truth is read: of the map that masks are cut from, and of masks."""

    pixels: int
    masks: int


@dataclass(frozen=True, slots=True)
class DecoderKind(Generic[C]):
    """One kind of decoder.

    Args:
        unit: The unit type that it decodes.
        config: The class of its configuration.
        build: Makes it.
        reader: Gives what reads its truth from the units of a conversation. None for decoders of
            boxes and masks that read those of `deixis.batch.References`.
        cell_width: Channels of the map of cells that it attends to; None where it does not.
        frame: How it sees images, where it encodes them itself.

    Raises:
        ModelError: There is no reader, and the unit type is neither box nor mask.
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
    """A fresh decoder, which gives proposals as they are where there are any."""
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
        # those of this design look at the pyramid itself
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
    # u-LLaVA's boxes, straight from hidden states
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
"""Every kind of decoder by the name that a model's ``decoders`` know it by."""


def decoder_kind(name: str) -> DecoderKind[Any]:
    """The kind of decoder of a name.

    Raises:
        ModelError: There is none.
    """
    if name not in DECODERS:
        raise ModelError(f"unit decoder {name!r}: expected one of {sorted(DECODERS)}")
    return DECODERS[name]


def decoder_config(name: str) -> type:
    """The class of the configuration of a decoder.

    Raises:
        ModelError: There is no decoder of that name.
    """
    config: type = decoder_kind(name).config
    return config


@dataclass(frozen=True, slots=True)
class NamedDecoder(Generic[C]):
    """A kind of decoder by name, with its configuration: not built yet."""

    name: str
    kind: DecoderKind[C]
    config: C

    @classmethod
    def read(cls, name: str, fields: Mapping[str, Any]) -> "NamedDecoder[C]":
        """Read a decoder's configuration from plain data.

        Raises:
            ModelError: There is no such decoder, or the configuration has a field that it lacks.
        """
        kind = decoder_kind(name)
        make: Callable[..., C] = kind.config
        try:
            return cls(name, kind, make(**fields))
        except TypeError as error:
            raise ModelError(f"unit decoder {name!r}: {error}") from error

    @property
    def part(self) -> str:
        """What the decoder is called as a part of a model."""
        return f"{self.kind.unit}_decoder"

    def build(self, around: Surroundings) -> AnyDecoder:
        """Make the decoder with random weights.

        Raises:
            ModelError: It does not fit its surroundings, or decodes another unit than its kind.
        """
        decoder = self.kind.build(self.config, around)
        if decoder.unit != self.kind.unit:
            raise ModelError(
                f"decoder {self.name!r}: expected units of type {self.kind.unit}, as DECODERS has "
                f"it, got {decoder.unit}"
            )
        return decoder

    def reader(self, grids: TruthGrids) -> TruthReader | None:
        """What reads its truth; None where the batch's boxes and masks are it."""
        return None if self.kind.reader is None else self.kind.reader(self.config, grids)
