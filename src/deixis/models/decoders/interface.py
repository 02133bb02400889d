"""What every unit decoder is, whatever its unit.

A decoder turns latent references into units of one type. It says which unit that is and how many of
them a turn may ask for, reads its truth from a batch, prices pairs of references and truth, gives its
losses, estimates its own quality and places units in source pixels. The model, its objectives and
the predictor know no more of it. `deixis.models.decoders.registry` lists the decoders that there are.
"""

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from deixis.batch import Batch, UnitTruth
from deixis.batch.references import Truth
from deixis.geometry import Letterbox
from deixis.models.decoders.pixel import PixelFeatures
from deixis.models.decoders.proposals import Proposals
from deixis.models.losses.anchors import Anchors
from deixis.models.losses.scoring import Learner
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
    """What a decoder gives, whatever else: how sure it is, and where its references attended."""

    @property
    def quality(self) -> Float[Tensor, "b q"]:
        """Logits of the chance that each unit is right; those of padding mean nothing."""

    @property
    def anchors(self) -> tuple[Anchors, ...]:
        """Where references attended, step by step; none without anchors."""


@runtime_checkable
class SeesImages(Protocol):
    """A decoder that encodes images itself, in a frame of its own."""

    def see(self, pixels: Float[Tensor, "b 3 side side"]) -> EncodedImages:
        """Encode images once, however many references follow."""


D = TypeVar("D", bound=Decoded)
T = TypeVar("T", bound=Truth)


@runtime_checkable
class UnitDecoder(Learner, Protocol[D, T]):
    """References in, units of one type out; a ``torch.nn.Module``.

    Truth has one entry for each filled reference, in row-major order; what of it is not known
    (``known`` is false) takes no part in any loss.
    """

    @property
    def unit(self) -> str:
        """Name of the unit type, as `deixis.structures.UnitType` or any other."""

    @property
    def capacity(self) -> int | None:
        """How many references of a turn it takes; None for any number."""

    @property
    def anchored(self) -> bool:
        """Whether its anchors learn where to attend from every reference, whatever unit it asks for."""

    def read_truth(self, batch: Batch, /) -> UnitTruth[T] | None:
        """What a batch knows of the references that it learns from; None where there are none."""

    def __call__(self, references: LatentReferences, features: Features, /) -> D:
        """Decode every reference; padding gets what nobody reads."""

    def costs(
        self,
        decoded: D,
        truth: T,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """What it costs if member i of a group takes the truth of member j.

        ``members`` are indices of filled references; entries of padding are not read.
        """

    def losses(self, decoded: D, truth: T, filled: Bool[Tensor, "b q"]) -> UnitLoss:
        """Score what was decoded against truth that is in the references' order."""

    def to_unit(self, decoded: D, row: int, position: int, letterbox: Letterbox) -> Unit:
        """The unit of one reference in pixels of its source image.

        ``decoded`` lies on the processor, wherever the decoder computes; inside it, dataclasses,
        tuples, lists and mappings are followed. ``letterbox`` is the way from the image to the
        canvas.

        Raises:
            GeometryError: What was decoded is no sound unit.
        """


AnyDecoder = UnitDecoder[Any, Any]
"""A decoder whose predictions and truth are its own matter."""
