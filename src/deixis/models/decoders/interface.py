"""What every unit decoder is, whatever its unit.

A decoder turns latent references into units of one type. Around it stand five things: its name,
what it decodes, what a pairing with the truth costs, what it loses, and what comes out of it in
source pixels. `deixis.models.decoders.registry` lists those that there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from deixis.geometry import ImageSize, Letterbox
from deixis.models.decoders.pixel import PixelFeatures
from deixis.models.decoders.proposals import Proposals
from deixis.models.references import LatentReferences
from deixis.structures import Unit


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """A batch of images as a segmenter encodes them, once however many references follow.

    ``embeddings`` are what its mask decoder attends to; ``details`` finer maps, from fine to
    coarse, for segmenters that have them.
    """

    embeddings: Float[Tensor, "b c h w"]
    details: tuple[Float[Tensor, "b _c _h _w"], ...] = ()


@dataclass(frozen=True, slots=True)
class Features:
    """All that decoders may look at; each takes what it needs.

    ``pyramid`` are the vision encoder's own maps, from fine to coarse.
    """

    maps: PixelFeatures
    proposals: Proposals | None = None
    images: EncodedImages | None = None
    pyramid: tuple[Float[Tensor, "b _c _h _w"], ...] = ()


@dataclass(frozen=True, slots=True)
class UnitLoss:
    """A decoder's loss, weighted and summed, its parts before weighting, and what was measured.

    ``loss`` is tied to every trainable parameter of the decoder (see `tied_zero`).
    """

    loss: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]
    measures: dict[str, Float[Tensor, ""]]


@runtime_checkable
class Decoded(Protocol):
    """What a decoder gives: whatever else, the logit of the chance that each unit is right."""

    @property
    def quality(self) -> Float[Tensor, "b q"]:
        """A logit for each reference; those of padding mean nothing."""


D = TypeVar("D", bound=Decoded)
T_contra = TypeVar("T_contra", contravariant=True)


@runtime_checkable
class ReadsUnits(Protocol):
    """A decoder that makes its truth of units itself: of a type that is none of ours."""

    def read_truth(
        self,
        units: Sequence[Unit | None],
        letterboxes: Sequence[Letterbox],
        weights: Float[Tensor, " n"],
    ) -> Any:
        """Truth for references: units in pixels of their images, each with its way to the canvas.

        A unit that is asked for and not known is None.
        """


@runtime_checkable
class UnitDecoder(Protocol[D, T_contra]):
    """References in, units of one type out.

    Truth has one entry for each filled reference, in row-major order; what of it is not known
    (``known`` is false) takes no part in any loss.
    """

    @property
    def unit(self) -> str:
        """Name of the unit type, as `deixis.structures.UnitType` or any other."""

    def __call__(self, references: LatentReferences, features: Features, /) -> D:
        """Decode every reference; padding gets what nobody reads."""

    def costs(
        self,
        decoded: D,
        truth: T_contra,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """What it costs if member i of a group takes the truth of member j.

        ``members`` are indices of filled references; entries of padding are not read.
        """

    def losses(self, decoded: D, truth: T_contra, filled: Bool[Tensor, "b q"]) -> UnitLoss:
        """Score what was decoded against truth that is in the references' order."""

    def to_unit(self, decoded: D, row: int, position: int, size: ImageSize) -> Unit:
        """The unit of one reference on its source image of ``size``, in its pixels.

        ``decoded`` lies on the processor, wherever the decoder computes; inside it, dataclasses,
        tuples, lists and mappings are followed.

        Raises:
            GeometryError: What was decoded is no sound unit.
        """
