"""Truth for references that point with bodies, with depth, or through a segmenter.

Only some models decode these. Each function gives the references that ask for such a unit, which
are whole groups, since a group shares its unit types; None where there are none.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deixis.geometry import Box, DepthMap, Keypoints, Letterbox, Mask
from deixis.notation import EncodedReference
from deixis.processing.batch import DepthReferences, FramedMasks, KeypointReferences, OtherUnits
from deixis.structures import Instance, UnitType

BODY_SHARE = 0.53
"""Area of a body's mask over that of its box, where only the box is known.

What evaluation on key points does for data sets without masks (mmpose, CrowdPose's API).
"""


def keypoint_references(
    references: Sequence[EncodedReference],
    names: Sequence[str],
    letterbox: Letterbox,
    instances: Sequence[Instance] = (),
) -> KeypointReferences | None:
    """Bodies of the references that ask for them, with the keypoints ``names`` in their order.

    Keypoints that a body lacks are absent. Its box and area are those of the reference's other
    units, else those of the instance that it is, else those of its keypoints.
    """
    asked = _asked(references, UnitType.KEYPOINT)
    if not asked:
        return None
    count = len(asked)
    positions = np.zeros((count, len(names), 2), np.float32)
    visibility = np.zeros((count, len(names)), np.int64)
    areas = np.zeros(count, np.float32)
    boxes = np.tile(np.array([0.5, 0.5, 1.0, 1.0], np.float32), (count, 1))
    known = np.zeros(count, bool)
    for row, index in enumerate(asked):
        body = _unit(references[index], Keypoints)
        if body is None:
            continue
        there = {name: place for place, name in enumerate(body.names)}
        shared = [place for place, name in enumerate(names) if name in there]
        theirs = [there[names[place]] for place in shared]
        placed = letterbox.apply_points(body.positions[theirs].astype(np.float64))
        positions[row, shared] = placed / letterbox.canvas
        visibility[row, shared] = body.visibility[theirs]
        known[row] = bool(visibility[row].any())
        if not known[row]:
            continue
        box, area = _extent(references[index], body, instances)
        x1, y1, x2, y2 = letterbox.apply_boxes(box[None])[0] / letterbox.canvas
        boxes[row] = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        areas[row] = area * (letterbox.scale / letterbox.canvas) ** 2
    return KeypointReferences(
        torch.tensor(asked),
        torch.from_numpy(positions),
        torch.from_numpy(visibility),
        torch.from_numpy(areas),
        torch.from_numpy(boxes),
        torch.from_numpy(known),
    )


def depth_references(
    references: Sequence[EncodedReference], letterbox: Letterbox, grid: int
) -> DepthReferences | None:
    """Depth maps of the references that ask for them, on a ``grid`` x ``grid`` canvas.

    A cell has the depth of the source pixel that its centre lies in; padding has none.
    """
    asked = _asked(references, UnitType.DEPTH)
    if not asked:
        return None
    values = np.zeros((len(asked), grid, grid), np.float32)
    relative, known = np.zeros(len(asked), bool), np.zeros(len(asked), bool)
    cells = replace(letterbox, canvas=grid)
    for row, index in enumerate(asked):
        depth = _unit(references[index], DepthMap)
        if depth is not None:
            values[row] = cells.apply(depth).values
            relative[row], known[row] = depth.kind == "relative", True
    return DepthReferences(
        torch.tensor(asked),
        torch.from_numpy(values),
        torch.from_numpy(relative),
        torch.from_numpy(known),
    )


def framed_masks(
    references: Sequence[EncodedReference],
    to_frame: Callable[
        [Mask, int], tuple[Bool[Tensor, "cells cells"], Bool[Tensor, "cells cells"]]
    ],
    grid: int,
) -> FramedMasks | None:
    """Masks of the references that ask for them, at ``grid`` cells a side of a segmenter's frame."""
    asked = _asked(references, UnitType.MASK)
    if not asked:
        return None
    masks = torch.zeros(len(asked), grid, grid, dtype=torch.bool)
    inside, known = torch.zeros_like(masks), torch.zeros(len(asked), dtype=torch.bool)
    for row, index in enumerate(asked):
        mask = _unit(references[index], Mask)
        if mask is not None:
            masks[row], inside[row] = to_frame(mask, grid)
            known[row] = True
    return FramedMasks(torch.tensor(asked), masks, inside, known)


def other_references(
    references: Sequence[EncodedReference], name: str, letterbox: Letterbox
) -> OtherUnits | None:
    """Units of the references that ask for a type that is not one of ours."""
    asked = [index for index, one in enumerate(references) if name in one.unit_types]
    if not asked:
        return None
    units = (references[index] for index in asked)
    return OtherUnits(
        torch.tensor(asked),
        tuple(one.units[one.unit_types.index(name)] for one in units),
        (letterbox,) * len(asked),
    )


_U = TypeVar("_U", Box, Mask, Keypoints, DepthMap)


def _asked(references: Sequence[EncodedReference], unit: UnitType) -> list[int]:
    return [index for index, one in enumerate(references) if unit in one.unit_types]


def _unit(reference: EncodedReference, kind: type[_U]) -> _U | None:
    return next((unit for unit in reference.units if isinstance(unit, kind)), None)


def _extent(
    reference: EncodedReference, body: Keypoints, instances: Sequence[Instance]
) -> tuple[Float[np.ndarray, " 4"], float]:
    """Box (xyxy) and area of a body, in source pixels."""
    box, mask = _unit(reference, Box), _unit(reference, Mask)
    same = next((one for one in instances if one.keypoints == body), None)
    if same is not None:
        box, mask = box or same.box, mask or same.mask
    if mask is not None and mask.is_empty:
        mask = None
    if box is None and mask is not None:
        box = mask.to_box()
    if box is not None:
        corners = box.as_array().astype(np.float64)
    else:
        labelled = body.positions[body.visibility > 0].astype(np.float64)
        corners = np.concatenate([labelled.min(0), labelled.max(0)])
    if mask is not None:
        return corners, float(mask.area)
    width, height = corners[2:] - corners[:2]
    return corners, float(BODY_SHARE * width * height)
