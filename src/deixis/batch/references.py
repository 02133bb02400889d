"""Truth for references: where they point, and what each unit decoder learns from."""

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
    """Truth for some references: a dataclass of tensors with an entry for each of them.

    Entries of several rows are put one after the other, field by field. What of it is not known
    takes no part in any loss.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def take(self, order: Int[Tensor, " n"], /) -> "Truth":
        """The truth that each reference takes; weights stay with the references."""


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class UnitTruth(Generic[T_co]):
    """Truth of one unit type for the references ``index`` of a batch: whole groups, in order."""

    index: Int[Tensor, " m"]
    truth: T_co


@dataclass(frozen=True, slots=True)
class AskedUnits:
    """The references of one image that ask for a unit type.

    Units lie in pixels of the source image; ``letterbox`` brings them to the canvas.

    Args:
        units: The unit of that type of each reference; None where it is not known.
        references: All units of each reference, of other types too.
        weights: How much each reference counts.
        letterbox: The way from the image to the canvas.
        instances: What is annotated in the image.
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
        """Truth with an entry for each reference."""


@dataclass(frozen=True, slots=True)
class References:
    """Truth for the references of a batch, in the order of their tokens.

    ``rows`` says whose image each points into. ``boxes`` are cxcywh in [0, 1] of the canvas.
    ``masks`` lie over the canvas, one for each of the references ``mask_index``, which are those
    that ask for a mask; ``asks_box`` are those that ask for a box. What is asked for and not
    annotated is False in ``has_box`` or ``has_mask``. ``groups`` holds the reference indices of
    each group, padded with -1; a group shares its unit types. ``truth`` has what the model's other
    decoders learn from, by unit type, for types that some reference asks for.
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
        """The truth of a unit type that its reader has made; None where no reference asks for it.

        Raises:
            ModelError: The reader has made something else.
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
