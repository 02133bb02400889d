"""The protocol that every unit decoder satisfies.

A decoder turns latent references into units of one type. It names its unit type and the number of
references that a turn may have, reads its truth from a batch, computes matching costs and losses,
estimates its own quality and places units in source pixels. The model, its objectives and the
predictor use nothing else of it. `deixis.models.decoders.registry` lists the decoders.
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
    """A batch of images that a segmenter has encoded, shared by all references.

    Its mask decoder attends to ``embeddings``; ``details`` are finer maps, from fine to coarse, for
    segmenters that have them.
    """

    embeddings: Float[Tensor, "b c h w"]
    details: tuple[Float[Tensor, "b _c _h _w"], ...] = ()


@dataclass(frozen=True, slots=True)
class Features:
    """The image features that decoders may use.

    ``pyramid`` are the maps of the vision encoder, from fine to coarse.
    """

    maps: PixelFeatures
    proposals: Proposals | None = None
    images: EncodedImages | None = None
    pyramid: tuple[Float[Tensor, "b _c _h _w"], ...] = ()


@dataclass(frozen=True, slots=True)
class UnitLoss:
    """A decoder's loss (a weighted sum), its parts before weighting, and measures such as IoU.

    ``loss`` is tied to every trainable parameter of the decoder (see `tied_zero`).
    """

    loss: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]
    measures: dict[str, Float[Tensor, ""]]


@runtime_checkable
class Decoded(Protocol):
    """The predictions of a decoder: at least their quality, and where references attended."""

    @property
    def quality(self) -> Float[Tensor, "b q"]:
        """Logits of the probability that each unit is right; undefined for padding."""

    @property
    def anchors(self) -> tuple[Anchors, ...]:
        """Where references attended, step by step; empty without anchors."""


@runtime_checkable
class SeesImages(Protocol):
    """A decoder that encodes images itself, in its own frame."""

    def see(self, pixels: Float[Tensor, "b 3 side side"]) -> EncodedImages:
        """Encode images once for all references."""


D = TypeVar("D", bound=Decoded)
T = TypeVar("T", bound=Truth)


@runtime_checkable
class UnitDecoder(Learner, Protocol[D, T]):
    """A ``torch.nn.Module`` that turns latent references into units of one type.

    Truth has one entry for each filled reference, in row-major order. Entries whose ``known`` is
    false take no part in any loss.
    """

    @property
    def unit(self) -> str:
        """Name of the unit type: a value of `deixis.structures.UnitType` or any other name."""

    @property
    def capacity(self) -> int | None:
        """The most references that a turn may have; None for any number."""

    @property
    def anchored(self) -> bool:
        """Whether its anchors learn where to attend from every reference, whatever unit it asks for."""

    def read_truth(self, batch: Batch, /) -> UnitTruth[T] | None:
        """Return the truth of the references that it learns from; None if the batch has none."""

    def __call__(self, references: LatentReferences, features: Features, /) -> D:
        """Decode every reference; predictions for padding are undefined."""

    def costs(
        self,
        decoded: D,
        truth: T,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """Return the matching costs: entry i, j if member i of a group takes the truth of member j.

        ``members`` are indices of filled references; costs of padding are not read.
        """

    def losses(self, decoded: D, truth: T, filled: Bool[Tensor, "b q"]) -> UnitLoss:
        """Compute the losses of predictions against truth in the order of the references."""

    def to_unit(self, decoded: D, row: int, position: int, letterbox: Letterbox) -> Unit:
        """Return the unit of one reference in pixels of its source image.

        The tensors of ``decoded`` are on the CPU, wherever the decoder computes; the caller moves
        those inside dataclasses, tuples, lists and mappings. ``letterbox`` maps the source image to
        the canvas.

        Raises:
            GeometryError: The prediction is not a valid unit.
        """


AnyDecoder = UnitDecoder[Any, Any]
"""A decoder with any types of predictions and truth."""
