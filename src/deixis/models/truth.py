"""From a batch's truth to what each unit decoder takes."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from deixis.models.decoders.depth import DepthDecoder, DepthTruth
from deixis.models.decoders.interface import ReadsUnits
from deixis.models.decoders.keypoints import KeypointDecoder, KeypointTruth
from deixis.models.decoders.location import LocationDecoder, LocationTruth
from deixis.models.decoders.prompted import PromptedMaskDecoder, PromptedTruth
from deixis.models.decoders.registry import AnyDecoder
from deixis.models.losses import to_corners
from deixis.models.objectives import MoreTruth, Truth
from deixis.models.regions import RegionInputs
from deixis.models.regions.alignment import AlignmentTruth


def read_truth(
    references: Any,
    decoders: Mapping[str, AnyDecoder],
    extents: Float[Tensor, "b 4"] | None = None,
) -> Truth:
    """Truth for a model with these further decoders, by unit type.

    Args:
        references: Truth of a batch, fields as in `deixis.processing.batch.References`.
        decoders: What decodes the units beyond boxes and masks.
        extents: Where on the canvas each row's image lies; None where it fills it.
    """
    more = {name: _more_truth(references, decoder) for name, decoder in decoders.items()}
    return Truth(
        references.boxes,
        references.asks_box,
        references.has_box,
        references.masks,
        references.mask_index,
        references.has_mask,
        references.groups,
        references.weights,
        {name: truth for name, truth in more.items() if truth is not None},
        extents,
    )


def read_regions(regions: Any) -> RegionInputs:
    """Regions of a batch (`deixis.processing.batch.Regions`) as region encoders take them."""
    return RegionInputs(
        regions.rows,
        regions.types,
        regions.masks,
        regions.boxes,
        regions.text_ids,
        regions.text_mask,
    )


def read_region_truth(truth: Any) -> AlignmentTruth:
    """What is known of a batch's regions (`deixis.processing.batch.RegionTruth`)."""
    return AlignmentTruth(truth.boxes, truth.known, truth.description_ids, truth.description_mask)


def _more_truth(references: Any, decoder: AnyDecoder) -> MoreTruth | None:
    """Truth for one decoder; None where the batch asks for none of its units."""
    match decoder:
        case KeypointDecoder():
            bodies = references.keypoints
            if bodies is None:
                return None
            weights = references.weights[bodies.index]
            return MoreTruth(
                bodies.index,
                KeypointTruth(
                    bodies.positions,
                    bodies.visibility,
                    bodies.areas,
                    bodies.boxes,
                    bodies.known,
                    weights,
                ),
            )
        case DepthDecoder():
            maps = references.depths
            if maps is None:
                return None
            weights = references.weights[maps.index]
            return MoreTruth(
                maps.index, DepthTruth(maps.values, maps.relative, maps.known, weights)
            )
        case PromptedMaskDecoder():
            masks = references.framed_masks
            if masks is None:
                return None
            weights = references.weights[masks.index]
            return MoreTruth(
                masks.index, PromptedTruth(masks.masks, masks.inside, masks.known, weights)
            )
        case LocationDecoder():
            asked = references.asks_box.nonzero()[:, 0]
            corners = to_corners(references.boxes[asked])
            known, weights = references.has_box[asked], references.weights[asked]
            truth = LocationTruth(corners, known, weights)
            return MoreTruth(asked, truth) if len(asked) else None
        case ReadsUnits():
            others = references.others.get(decoder.unit)
            if others is None:
                return None
            weights = references.weights[others.index]
            read = decoder.read_truth(others.units, others.letterboxes, weights)
            return MoreTruth(others.index, read)
        case _:
            return None
