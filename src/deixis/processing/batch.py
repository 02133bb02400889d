"""Sequences padded into one batch; the only place that knows the batch's fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from deixis.geometry import Letterbox
from deixis.structures import IGNORE_INDEX, Unit


@dataclass(frozen=True, slots=True)
class KeypointReferences:
    """Bodies that references point at, for the references ``index``: whole groups, in order.

    ``positions`` (x, y) and ``boxes`` (cxcywh) lie in [0, 1] of the canvas, ``visibility`` is
    COCO's, ``areas`` (which OKS scales by) are shares of the canvas. A body that is asked for and
    not annotated is not ``known``.
    """

    index: Int[Tensor, " m"]
    positions: Float[Tensor, "m k 2"]
    visibility: Int[Tensor, "m k"]
    areas: Float[Tensor, " m"]
    boxes: Float[Tensor, "m 4"]
    known: Bool[Tensor, " m"]


@dataclass(frozen=True, slots=True)
class DepthReferences:
    """Depth maps of the references ``index``, over the canvas; 0 where depth is unknown.

    Values are metres, or where ``relative`` holds any numbers that grow with depth.
    """

    index: Int[Tensor, " m"]
    values: Float[Tensor, "m h w"]
    relative: Bool[Tensor, " m"]
    known: Bool[Tensor, " m"]


@dataclass(frozen=True, slots=True)
class FramedMasks:
    """Masks of the references ``index`` in the frame of a segmenter, and where the image is."""

    index: Int[Tensor, " m"]
    masks: Bool[Tensor, "m h w"]
    inside: Bool[Tensor, "m h w"]
    known: Bool[Tensor, " m"]


@dataclass(frozen=True, slots=True)
class OtherUnits:
    """Units of a type that is not one of ours, for the references ``index``: whole groups, in order.

    Each with the way from its image to the canvas; what of it is asked for and not known is None.
    """

    index: Int[Tensor, " m"]
    units: tuple[Unit | None, ...]
    letterboxes: tuple[Letterbox, ...]


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions that questions point with, in the order of their places in the text.

    ``rows`` says whose image each lies on, ``types`` how it was given (`RegionType.number`).
    ``masks`` are the shares of cells that they cover, over the canvas at the resolution of the
    pixel features; ``boxes`` are x1 y1 x2 y2 in [0, 1] of the canvas. A region in words has neither, and tokens in ``text_ids`` where
    ``text_mask`` says so.
    """

    rows: Int[Tensor, " r"]
    types: Int[Tensor, " r"]
    masks: Float[Tensor, "r rh rw"]
    boxes: Float[Tensor, "r 4"]
    text_ids: Int[Tensor, "r words"]
    text_mask: Bool[Tensor, "r words"]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class RegionTruth:
    """What is known of a batch's regions, for aligning a region encoder by itself.

    A region that was drawn is described by what was answered about it, one in words by itself; its
    box is its own, or the first of the answer (x1 y1 x2 y2 in [0, 1] of the canvas) where there is
    one and it is ``known``.
    """

    boxes: Float[Tensor, "r 4"]
    known: Bool[Tensor, " r"]
    description_ids: Int[Tensor, "r words"]
    description_mask: Bool[Tensor, "r words"]


@dataclass(frozen=True, slots=True)
class References:
    """Truth for the references of a batch, in the order of their tokens.

    ``boxes`` are cxcywh in [0, 1] of the canvas. ``masks`` lie over the canvas, one for each of
    the references ``mask_index``, which are those that ask for a mask; ``asks_box`` are those
    that ask for a box. What is asked for and not annotated is False in ``has_box`` or
    ``has_mask``. ``groups`` holds the reference indices of each group, padded with -1; a group
    shares its unit types. The next three
    are None where no reference asks for such a unit, or the model decodes none; ``others`` has
    units of other types that the model decodes, by their type.
    """

    boxes: Float[Tensor, "n 4"]
    asks_box: Bool[Tensor, " n"]
    has_box: Bool[Tensor, " n"]
    masks: UInt8[Tensor, "m mh mw"]
    mask_index: Int[Tensor, " m"]
    has_mask: Bool[Tensor, " n"]
    groups: Int[Tensor, "g most"]
    weights: Float[Tensor, " n"]
    keypoints: KeypointReferences | None = None
    depths: DepthReferences | None = None
    framed_masks: FramedMasks | None = None
    others: Mapping[str, OtherUnits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Things:
    """Everything that is annotated in the images of a batch, asked about or not.

    ``cells`` says which thing the centre of each cell shows, -1 for none. ``concepts`` says which
    of the words that the model learns from cells hold for a thing. Boxes are as in `References`,
    masks lie at the resolution of the pixel features.
    """

    cells: Int[Tensor, "b cells"]
    boxes: Float[Tensor, "m 4"]
    masks: UInt8[Tensor, "m mh mw"]
    concepts: Bool[Tensor, "m known"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of rows; a row is one image and the turns about it.

    ``turns`` is 0 for what every turn of a row sees (image), 1, 2, … for turns, -1 for padding.
    ``independent`` rows hide turns from one another. ``positions`` are rotary positions.
    ``framed_pixels`` are the images as a segmenter takes them, where the model has one. ``frames``
    says how many of the pictures in ``pixel_values`` are the frames of each row's video, 0 for a
    row with an image; it is None where all have one. ``region_truth`` is there for models whose
    region encoder is aligned. ``extents`` say where on the canvas each row's image lies: x1 y1 x2
    y2 in [0, 1]; what is around it is padding.
    """

    pixel_values: Float[Tensor, "pictures 3 canvas canvas"]
    input_ids: Int[Tensor, "b t"]
    labels: Int[Tensor, "b t"]
    label_weights: Float[Tensor, "b t"]
    positions: Int[Tensor, "b t"]
    turns: Int[Tensor, "b t"]
    independent: Bool[Tensor, " b"]
    regions: Regions
    references: References
    things: Things
    framed_pixels: Float[Tensor, "b 3 side side"] | None = None
    frames: Int[Tensor, " b"] | None = None
    region_truth: RegionTruth | None = None
    extents: Float[Tensor, "b 4"] | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """Move every tensor."""
        moved: Batch = _moved(self, device)
        return moved


@dataclass(frozen=True, slots=True)
class RowTruth:
    """What is known of a row's regions; fields as in `RegionTruth`."""

    boxes: Float[np.ndarray, "r 4"]
    known: Bool[np.ndarray, " r"]
    descriptions: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One image or video and its turns as arrays, before padding.

    ``frames`` is 0 for an image. ``left_out`` counts the turns that a limit kept out of the row.
    """

    pixels: Float[np.ndarray, "pictures 3 canvas canvas"]
    input_ids: Int[np.ndarray, " t"]
    labels: Int[np.ndarray, " t"]
    label_weights: Float[np.ndarray, " t"]
    positions: Int[np.ndarray, " t"]
    turns: Int[np.ndarray, " t"]
    independent: bool
    regions: Float[np.ndarray, "r rh rw"]
    region_types: Int[np.ndarray, " r"]
    region_boxes: Float[np.ndarray, "r 4"]
    region_texts: tuple[tuple[int, ...], ...]
    boxes: Float[np.ndarray, "n 4"]
    asks_box: Bool[np.ndarray, " n"]
    has_box: Bool[np.ndarray, " n"]
    masks: UInt8[np.ndarray, "asked fine fine"]
    mask_index: Int[np.ndarray, " asked"]
    has_mask: Bool[np.ndarray, " n"]
    groups: tuple[tuple[int, ...], ...]
    weights: Float[np.ndarray, " n"]
    cells: Int[np.ndarray, " cells"]
    thing_boxes: Float[np.ndarray, "m 4"]
    thing_masks: UInt8[np.ndarray, "m mh mw"]
    concepts: Bool[np.ndarray, "m known"]
    keypoints: KeypointReferences | None = None
    depths: DepthReferences | None = None
    framed_masks: FramedMasks | None = None
    others: Mapping[str, OtherUnits] = field(default_factory=dict)
    framed_pixels: Float[Tensor, "3 side side"] | None = None
    frames: int = 0
    region_truth: RowTruth | None = None
    extent: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    left_out: int = 0

    @property
    def num_turns(self) -> int:
        """How many turns are in the row."""
        return len(np.unique(self.turns[self.turns > 0]))


def collate(rows: Sequence[Row], *, pad_id: int, left: bool = False, multiple: int = 1) -> Batch:
    """Pad rows into a batch, on the right for training and on the ``left`` for generation.

    The length is rounded up to a ``multiple``: kernels are prepared once for each shape.
    """
    longest = max(len(row.input_ids) for row in rows)
    longest += -longest % multiple

    def padded(name: str, fill: float, dtype: torch.dtype) -> Tensor:
        out = torch.full((len(rows), longest), fill, dtype=dtype)
        for index, row in enumerate(rows):
            values = torch.from_numpy(getattr(row, name))
            start = longest - len(values) if left else 0
            out[index, start : start + len(values)] = values.to(dtype)
        return out

    def joined(name: str) -> Tensor:
        return _concatenated([getattr(row, name) for row in rows])

    groups: list[tuple[int, ...]] = []
    cells: list[np.ndarray] = []
    starts: list[int] = []
    first, first_thing = 0, 0
    for row in rows:
        starts.append(first)
        groups += [tuple(first + index for index in group) for group in row.groups]
        first += len(row.boxes)
        cells.append(np.where(row.cells >= 0, row.cells + first_thing, -1))
        first_thing += len(row.thing_boxes)
    framed = [row.framed_pixels for row in rows if row.framed_pixels is not None]
    most = max((len(group) for group in groups), default=1)
    table = torch.full((len(groups), most), -1, dtype=torch.long)
    for index, group in enumerate(groups):
        table[index, : len(group)] = torch.tensor(group)
    return Batch(
        pixel_values=joined("pixels"),
        input_ids=padded("input_ids", pad_id, torch.long),
        labels=padded("labels", IGNORE_INDEX, torch.long),
        label_weights=padded("label_weights", 0.0, torch.float32),
        positions=padded("positions", 0, torch.long),
        turns=padded("turns", -1, torch.long),
        independent=torch.tensor([row.independent for row in rows]),
        regions=Regions(
            rows=torch.repeat_interleave(
                torch.arange(len(rows)), torch.tensor([len(row.regions) for row in rows])
            ),
            types=joined("region_types"),
            masks=joined("regions"),
            boxes=joined("region_boxes"),
            **_texts([text for row in rows for text in row.region_texts], "text"),
        ),
        references=References(
            boxes=joined("boxes"),
            asks_box=joined("asks_box"),
            has_box=joined("has_box"),
            masks=joined("masks"),
            mask_index=torch.cat(
                [
                    torch.from_numpy(row.mask_index) + start
                    for row, start in zip(rows, starts, strict=True)
                ]
            ),
            has_mask=joined("has_mask"),
            groups=table,
            weights=joined("weights"),
            keypoints=_joined(KeypointReferences, [row.keypoints for row in rows], starts),
            depths=_joined(DepthReferences, [row.depths for row in rows], starts),
            framed_masks=_joined(FramedMasks, [row.framed_masks for row in rows], starts),
            others=_joined_others([row.others for row in rows], starts),
        ),
        things=Things(
            cells=_concatenated([one[None] for one in cells]),
            boxes=joined("thing_boxes"),
            masks=joined("thing_masks"),
            concepts=joined("concepts"),
        ),
        framed_pixels=torch.stack(framed) if framed else None,
        frames=torch.tensor([row.frames for row in rows])
        if any(row.frames for row in rows)
        else None,
        region_truth=_region_truth([row.region_truth for row in rows]),
        extents=torch.tensor([row.extent for row in rows]),
    )


def _concatenated(arrays: Sequence[np.ndarray]) -> Tensor:
    """One tensor in memory that torch allocates, so that a batch is aligned wherever it is made."""
    return torch.cat([torch.from_numpy(array) for array in arrays])


def _region_truth(rows: Sequence[RowTruth | None]) -> RegionTruth | None:
    given = [row for row in rows if row is not None]
    if not given:
        return None
    return RegionTruth(
        boxes=_concatenated([row.boxes for row in given]),
        known=_concatenated([row.known for row in given]),
        **_texts([text for row in given for text in row.descriptions], "description"),
    )


def _texts(texts: Sequence[Sequence[int]], name: str) -> dict[str, Tensor]:
    longest = max((len(text) for text in texts), default=0)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    there = torch.zeros(len(texts), longest, dtype=torch.bool)
    for index, text in enumerate(texts):
        ids[index, : len(text)] = torch.tensor(text, dtype=torch.long)
        there[index, : len(text)] = True
    return {f"{name}_ids": ids, f"{name}_mask": there}


_T = TypeVar("_T", KeypointReferences, DepthReferences, FramedMasks)


def _joined(kind: type[_T], parts: Sequence[_T | None], starts: Sequence[int]) -> _T | None:
    """Truth of some references of every row as truth of the batch's; None where no row has any."""
    found = [
        replace(part, index=part.index + start)
        for part, start in zip(parts, starts, strict=True)
        if part is not None
    ]
    if not found:
        return None
    return kind(
        **{f.name: torch.cat([getattr(one, f.name) for one in found]) for f in fields(kind)}
    )


def _joined_others(
    rows: Sequence[Mapping[str, OtherUnits]], starts: Sequence[int]
) -> dict[str, OtherUnits]:
    joined: dict[str, OtherUnits] = {}
    for row, start in zip(rows, starts, strict=True):
        for name, found in row.items():
            before = joined.get(name, OtherUnits(torch.zeros(0, dtype=torch.long), (), ()))
            joined[name] = OtherUnits(
                torch.cat([before.index, found.index + start]),
                before.units + found.units,
                before.letterboxes + found.letterboxes,
            )
    return joined


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, OtherUnits):
        return replace(value, index=value.index.to(device))
    if isinstance(value, Mapping):
        return {name: _moved(each, device) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        moved = {f.name: _moved(getattr(value, f.name), device) for f in fields(value)}
        return replace(value, **moved)
    return value
