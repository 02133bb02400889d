"""Readers of the truth of keypoint, depth and segmenter decoders from units."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from deixis.batch import AskedUnits
from deixis.geometry import Box, DepthMap, Keypoints, Mask
from deixis.models.decoders.depth import DepthTruth
from deixis.models.decoders.keypoints import KeypointTruth
from deixis.models.decoders.prompted import ImageFrame, PromptedTruth

BODY_SHARE = 0.53
"""Ratio of the areas of a body's mask and box, for bodies without a mask.

Keypoint evaluation of data sets without masks uses it (mmpose, CrowdPose's API).
"""


@dataclass(frozen=True, slots=True)
class KeypointReader:
    """Read bodies with the keypoints ``names``, in this order.

    Missing keypoints are absent. Box and area come from the reference's other units, else from the
    annotated instance with these keypoints, else from the keypoints.
    """

    names: tuple[str, ...]

    def __call__(self, asked: AskedUnits) -> KeypointTruth:
        """Truth with an entry for each reference."""
        names, letterbox, count = self.names, asked.letterbox, len(asked.units)
        positions = np.zeros((count, len(names), 2), np.float32)
        visibility = np.zeros((count, len(names)), np.int64)
        areas = np.zeros(count, np.float32)
        boxes = np.tile(np.array([0.5, 0.5, 1.0, 1.0], np.float32), (count, 1))
        known = np.zeros(count, bool)
        for row, body in enumerate(asked.units):
            if not isinstance(body, Keypoints):
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
            box, area = _extent(asked, row, body)
            x1, y1, x2, y2 = letterbox.apply_boxes(box[None])[0] / letterbox.canvas
            boxes[row] = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            areas[row] = area * (letterbox.scale / letterbox.canvas) ** 2
        return KeypointTruth(
            torch.from_numpy(positions),
            torch.from_numpy(visibility),
            torch.from_numpy(areas),
            torch.from_numpy(boxes),
            torch.from_numpy(known),
            asked.weights,
        )


@dataclass(frozen=True, slots=True)
class DepthReader:
    """Read depth maps on a ``grid`` x ``grid`` canvas.

    A cell has the depth of the source pixel at its centre; padding is 0 (unknown).
    """

    grid: int

    def __call__(self, asked: AskedUnits) -> DepthTruth:
        """Truth with an entry for each reference."""
        count = len(asked.units)
        values = np.zeros((count, self.grid, self.grid), np.float32)
        relative, known = np.zeros(count, bool), np.zeros(count, bool)
        cells = replace(asked.letterbox, canvas=self.grid)
        for row, depth in enumerate(asked.units):
            if isinstance(depth, DepthMap):
                values[row] = cells.apply(depth).values
                relative[row], known[row] = depth.kind == "relative", True
        return DepthTruth(
            torch.from_numpy(values),
            torch.from_numpy(relative),
            torch.from_numpy(known),
            asked.weights,
        )


@dataclass(frozen=True, slots=True)
class FramedMaskReader:
    """Read masks at ``grid`` x ``grid`` cells of a segmenter's ``frame``."""

    frame: ImageFrame
    grid: int

    def __call__(self, asked: AskedUnits) -> PromptedTruth:
        """Truth with an entry for each reference."""
        count = len(asked.units)
        masks = torch.zeros(count, self.grid, self.grid, dtype=torch.bool)
        inside, known = torch.zeros_like(masks), torch.zeros(count, dtype=torch.bool)
        for row, mask in enumerate(asked.units):
            if isinstance(mask, Mask):
                masks[row], inside[row] = self.frame.to_frame(mask, self.grid)
                known[row] = True
        return PromptedTruth(masks, inside, known, asked.weights)


def _extent(asked: AskedUnits, row: int, body: Keypoints) -> tuple[Float[np.ndarray, " 4"], float]:
    """Return box (xyxy) and area of a body, in source pixels."""
    units = asked.references[row]
    box = next((unit for unit in units if isinstance(unit, Box)), None)
    mask = next((unit for unit in units if isinstance(unit, Mask)), None)
    same = next((one for one in asked.instances if one.keypoints == body), None)
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
