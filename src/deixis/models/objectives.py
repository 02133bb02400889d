"""What training minimises: step 6 of a forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deixis.batch import UnitTruth
from deixis.batch.references import Truth
from deixis.geometry import Letterbox
from deixis.models.decoders.interface import AnyDecoder, Decoded
from deixis.models.losses.anchors import Anchors
from deixis.models.losses.scoring import tied_zero
from deixis.models.matching import assign_groups, reorder_groups
from deixis.models.references import LatentReferences
from deixis.structures import Unit


@dataclass(frozen=True, slots=True)
class UnitsOfType:
    """What one decoder made of the references that it was given.

    ``filled`` masks these, packed to the left; ``places`` tells where in its row each reference of
    the batch went, -1 where it was not given.
    """

    decoder: AnyDecoder
    decoded: Decoded
    filled: Bool[Tensor, "b some"]
    places: Int[Tensor, "b q"]


@dataclass(frozen=True, slots=True)
class DecodedUnits:
    """What the decoders made of the references, by unit type."""

    references: LatentReferences
    units: Mapping[str, UnitsOfType]

    def place(self, unit: str, row: int, reference: int) -> int | None:
        """Where in its row a decoder has a reference; None where it was not given it."""
        if unit not in self.units:
            return None
        place = int(self.units[unit].places[row, reference])
        return None if place < 0 else place

    def to_unit(self, unit: str, row: int, reference: int, letterbox: Letterbox) -> Unit | None:
        """A reference as a unit in pixels of its image; None where no decoder was given it.

        Raises:
            GeometryError: What was decoded is no sound unit.
        """
        place = self.place(unit, row, reference)
        if place is None:
            return None
        one = self.units[unit]
        return one.decoder.to_unit(one.decoded, row, place, letterbox)

    def quality(self, unit: str, row: int, reference: int) -> Float[Tensor, ""] | None:
        """The logit of the chance that a unit is right; None where no decoder was given it."""
        place = self.place(unit, row, reference)
        return None if place is None else self.units[unit].decoded.quality[row, place]

    def attended(self, row: int, reference: int) -> tuple[Anchors, int] | None:
        """Where a reference attends, by the first anchored decoder that was given it.

        Returns:
            The anchors of that decoder's last step, and the reference's place among them.
        """
        for unit, one in self.units.items():
            place = self.place(unit, row, reference)
            if one.decoder.anchored and place is not None:
                return one.decoded.anchors[-1], place
        return None


def weighted_sum(
    parts: dict[str, Float[Tensor, ""]], weights: dict[str, float]
) -> Float[Tensor, ""]:
    """Add losses by their weights."""
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def unit_losses(
    units: DecodedUnits,
    truths: Mapping[str, UnitTruth[Truth]],
    groups: Int[Tensor, "g most"],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Step 6: match references to truth inside their groups and let every decoder score itself.

    Decoders without truth in the batch get a zero that is tied to their parameters, so that
    distributed ranks stay in step.

    Args:
        units: What was decoded, each decoder having the references of its truth.
        truths: Truth by unit type.
        groups: Indices of the references of each group, padded with -1.

    Returns:
        The loss of each decoder, by unit type, and what was measured.
    """
    order = match_truth(units, truths, groups)
    parts: dict[str, Tensor] = {}
    measures: dict[str, Tensor] = {}
    for unit, one in units.units.items():
        known = truths.get(unit)
        if known is None:
            parts[unit] = tied_zero(one.decoder)
            continue
        taken = known.truth.take(_places(known.index, len(order))[order[known.index]])
        scored = one.decoder.losses(one.decoded, taken, one.filled)
        parts[unit] = scored.loss
        named = {f"{unit}_{part}": value for part, value in scored.parts.items()}
        measures |= scored.measures | named
    return parts, measures


@torch.no_grad()
def match_truth(
    units: DecodedUnits,
    truths: Mapping[str, UnitTruth[Truth]],
    groups: Int[Tensor, "g most"],
) -> Int[Tensor, " n"]:
    """The truth that each reference takes: a permutation inside each group.

    A pair costs what the decoders that were given its group say (REF-VLM IV-C). What is not known of
    a truth costs nothing.
    """
    order = torch.arange(len(units.references), device=groups.device)
    sizes = (groups >= 0).sum(1)
    several = groups[sizes > 1]
    if not len(several):
        return order
    cost = torch.zeros(len(several), several.shape[1], several.shape[1], device=order.device)
    for unit, one in units.units.items():
        known = truths.get(unit)
        if known is None:
            continue
        # a group shares its unit types, so a decoder has all of it or nothing
        own = _places(known.index, len(order))[several].masked_fill(several < 0, -1)
        here = (own >= 0).any(1)
        members = own[here]
        if len(members):
            cost[here] += one.decoder.costs(one.decoded, known.truth, one.filled, members)
    taken = assign_groups(cost, (several >= 0).sum(1).cpu().numpy())
    return reorder_groups(several, taken, len(order))


def _places(index: Int[Tensor, " m"], count: int) -> Int[Tensor, " count"]:
    """Where in ``index`` each of ``count`` references is; -1 where it is not."""
    places = torch.full((count,), -1, dtype=torch.long, device=index.device)
    places[index] = torch.arange(len(index), device=index.device)
    return places
