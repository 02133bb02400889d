"""Truth for references: the targets from which unit decoders learn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from deixis.errors import ModelError
from deixis.geometry import Letterbox
from deixis.structures import Instance, Unit


@runtime_checkable
class Truth(Protocol):
    """Truth for references: a dataclass of tensors with one entry for each reference.

    The entries of several rows are concatenated, field by field. Unknown entries take no part in
    any loss.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def take(self, order: Int[Tensor, " n"], /) -> "Truth":
        """Reorder the truth; weights stay with the references."""


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class UnitTruth(Generic[T_co]):
    """Truth of one unit type for the references ``index`` of a batch: whole groups, ascending."""

    index: Int[Tensor, " m"]
    truth: T_co


@dataclass(frozen=True, slots=True)
class AskedUnits:
    """The references of one image that ask for a unit type.

    Units are in pixels of the source image.

    Args:
        units: The unit of that type of each reference; None if it is not known.
        references: All units of each reference, also of other types.
        weights: Weight of each reference.
        letterbox: The transform from the source image to the canvas.
        instances: The annotated instances of the image.
    """

    units: tuple[Unit | None, ...]
    references: tuple[tuple[Unit | None, ...], ...]
    weights: Float[Tensor, " m"]
    letterbox: Letterbox
    instances: tuple[Instance, ...] = ()


@runtime_checkable
class TruthReader(Protocol):
    """Turns the units of an image's references into the truth of a decoder."""

    def __call__(self, asked: AskedUnits, /) -> Truth:
        """Return truth with an entry for each reference."""


@dataclass(frozen=True, slots=True)
class References:
    """Truth for the references of a batch, in the order of their tokens.

    ``rows`` is the row of each reference. ``boxes`` are cxcywh in [0, 1] of the canvas. ``masks``
    cover the canvas, one for each of the references ``mask_index``, which ask for a mask;
    ``asks_box`` masks the references that ask for a box. ``has_box`` and ``has_mask`` are False if
    the unit is not annotated. ``groups`` are the reference indices of each group, padded with -1; a
    group shares its unit types. ``truth`` is the truth of the model's other decoders, by unit type,
    for types that a reference asks for.
    """

    rows: Int[Tensor, " n"]
    boxes: Float[Tensor, "n 4"]
    asks_box: Bool[Tensor, " n"]
    has_box: Bool[Tensor, " n"]
    masks: UInt8[Tensor, "m mh mw"]
    mask_index: Int[Tensor, " m"]
    has_mask: Bool[Tensor, " n"]
    groups: Int[Tensor, "g most"]
    weights: Float[Tensor, " n"]
    truth: Mapping[str, UnitTruth[Truth]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.boxes)

    def truth_of(self, unit: str, kind: type[T]) -> UnitTruth[T] | None:
        """Return the truth of a unit type; None if no reference asks for the type.

        Raises:
            ModelError: The truth is not of class ``kind``.
        """
        found = self.truth.get(unit)
        if found is None:
            return None
        if not isinstance(found.truth, kind):
            raise ModelError(
                f"truth of units of type {unit}: expected {kind.__name__}, got "
                f"{type(found.truth).__name__}"
            )
        return UnitTruth(found.index, found.truth)
