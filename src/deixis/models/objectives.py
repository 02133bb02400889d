"""Matching and unit losses: step 6 of a forward pass."""

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
    """The predictions of one decoder.

    ``filled`` masks the references that it decoded, packed to the left; ``places`` is the column of
    each reference of the batch among them, -1 if it was not decoded.
    """

    decoder: AnyDecoder
    decoded: Decoded
    filled: Bool[Tensor, "b some"]
    places: Int[Tensor, "b q"]


@dataclass(frozen=True, slots=True)
class DecodedUnits:
    """The predictions of all decoders, by unit type."""

    references: LatentReferences
    units: Mapping[str, UnitsOfType]

    def place(self, unit: str, row: int, reference: int) -> int | None:
        """Return the column of a reference in a decoder's predictions; None if not decoded."""
        if unit not in self.units:
            return None
        place = int(self.units[unit].places[row, reference])
        return None if place < 0 else place

    def to_unit(self, unit: str, row: int, reference: int, letterbox: Letterbox) -> Unit | None:
        """Return the unit of a reference in pixels of its source image; None if not decoded.

        Raises:
            GeometryError: The prediction is not a valid unit.
        """
        place = self.place(unit, row, reference)
        if place is None:
            return None
        one = self.units[unit]
        return one.decoder.to_unit(one.decoded, row, place, letterbox)

    def quality(self, unit: str, row: int, reference: int) -> Float[Tensor, ""] | None:
        """Return the logit of the probability that a unit is right; None if not decoded."""
        place = self.place(unit, row, reference)
        return None if place is None else self.units[unit].decoded.quality[row, place]

    def attended(self, row: int, reference: int) -> tuple[Anchors, int] | None:
        """Find the anchor of a reference.

        Returns:
            The last anchors of the first anchored decoder that decoded the reference, and its
            column among them; None if there is no such decoder.
        """
        for unit, one in self.units.items():
            place = self.place(unit, row, reference)
            if one.decoder.anchored and place is not None:
                return one.decoded.anchors[-1], place
        return None


def weighted_sum(
    parts: dict[str, Float[Tensor, ""]], weights: dict[str, float]
) -> Float[Tensor, ""]:
    """Return the weighted sum of losses."""
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def unit_losses(
    units: DecodedUnits,
    truths: Mapping[str, UnitTruth[Truth]],
    groups: Int[Tensor, "g most"],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Step 6: match references to truth inside their groups and compute the loss of each decoder.

    A decoder without truth in the batch gets a zero that is tied to its parameters, so that it
    takes part in the backward pass of distributed training.

    Args:
        units: Predictions; each decoder has decoded the references of its truth.
        truths: Truth by unit type.
        groups: Indices of the references of each group, padded with -1.

    Returns:
        The loss of each decoder by unit type, and measures by name.
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
    """Return the index of the truth that each reference takes: a permutation inside each group.

    The cost of a pair is the sum of the decoders' costs (REF-VLM IV-C). Unknown truth costs 0.
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
        # a group shares its unit types, so a decoder has the whole group or none of it
        own = _places(known.index, len(order))[several].masked_fill(several < 0, -1)
        here = (own >= 0).any(1)
        members = own[here]
        if len(members):
            cost[here] += one.decoder.costs(one.decoded, known.truth, one.filled, members)
    taken = assign_groups(cost, (several >= 0).sum(1).cpu().numpy())
    return reorder_groups(several, taken, len(order))


def _places(index: Int[Tensor, " m"], count: int) -> Int[Tensor, " count"]:
    """Return the position of each of ``count`` references in ``index``; -1 if it is missing."""
    places = torch.full((count,), -1, dtype=torch.long, device=index.device)
    places[index] = torch.arange(len(index), device=index.device)
    return places
