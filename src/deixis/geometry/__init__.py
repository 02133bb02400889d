"""Geometry in source pixels, and transforms of it; NumPy only.

Boxes are xyxy with exclusive right and bottom edges; sizes are ``ImageSize(height, width)``.
"""

from deixis.geometry.boxes import (
    Box,
    BoxLayout,
    box_area,
    box_iou,
    boxes_from_masks,
    clip_boxes,
    convert_boxes,
    generalized_box_iou,
    overlap_of_boxes,
    stack_boxes,
)
from deixis.geometry.depth import DepthMap
from deixis.geometry.fractions import check_pixels, from_fractions
from deixis.geometry.keypoints import COCO_FLIP_PAIRS, COCO_KEYPOINTS, Keypoints, mirrored_order
from deixis.geometry.masks import CodedMask, Mask, mask_iou
from deixis.geometry.oriented import OrientedBox
from deixis.geometry.points import Point, Scribble, stack_points
from deixis.geometry.size import ImageSize
from deixis.geometry.transforms import (
    Compose,
    Crop,
    Flip,
    Geometry,
    Letterbox,
    Orient,
    Padding,
    Resize,
    Transform,
)

__all__ = [
    "COCO_FLIP_PAIRS",
    "COCO_KEYPOINTS",
    "Box",
    "BoxLayout",
    "CodedMask",
    "Compose",
    "Crop",
    "DepthMap",
    "Flip",
    "Geometry",
    "ImageSize",
    "Keypoints",
    "Letterbox",
    "Mask",
    "Orient",
    "OrientedBox",
    "Padding",
    "Point",
    "Resize",
    "Scribble",
    "Transform",
    "box_area",
    "box_iou",
    "boxes_from_masks",
    "check_pixels",
    "clip_boxes",
    "convert_boxes",
    "from_fractions",
    "generalized_box_iou",
    "mask_iou",
    "mirrored_order",
    "overlap_of_boxes",
    "stack_boxes",
    "stack_points",
]
