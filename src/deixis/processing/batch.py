"""Rows as arrays, and their collation into a padded batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from deixis.batch import Batch, Instances, References, Regions, RegionTruth, UnitTruth
from deixis.batch.references import Truth
from deixis.structures import IGNORE_INDEX


@dataclass(frozen=True, slots=True)
class RowTruth:
    """Truth about a row's regions; fields as in `RegionTruth`."""

    boxes: Float[np.ndarray, "r 4"]
    known: Bool[np.ndarray, " r"]
    descriptions: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One image or video and its turns as arrays, before padding.

    ``instances`` and ``truth`` are tensors. ``frames`` is 0 for an image. ``left_out`` is the number
    of turns that did not fit into the row.
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
    instances: Instances
    truth: Mapping[str, UnitTruth[Truth]] = field(default_factory=dict)
    framed_pixels: Float[Tensor, "3 side side"] | None = None
    frames: int = 0
    region_truth: RowTruth | None = None
    extent: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    left_out: int = 0

    @property
    def num_turns(self) -> int:
        """The number of turns in the row."""
        return len(np.unique(self.turns[self.turns > 0]))


def collate(rows: Sequence[Row], *, pad_id: int, left: bool = False, multiple: int = 1) -> Batch:
    """Pad rows to a batch, on the right for training and on the ``left`` for generation.

    The length is rounded up to a ``multiple``, since kernels are compiled for each shape.
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
    starts: list[int] = []
    first = 0
    for row in rows:
        starts.append(first)
        groups += [tuple(first + index for index in group) for group in row.groups]
        first += len(row.boxes)
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
            rows=_numbered([len(row.regions) for row in rows]),
            types=joined("region_types"),
            masks=joined("regions"),
            boxes=joined("region_boxes"),
            **_texts([text for row in rows for text in row.region_texts], "text"),
        ),
        references=References(
            rows=_numbered([len(row.boxes) for row in rows]),
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
            truth=_joined_truth([row.truth for row in rows], starts),
        ),
        instances=_joined_instances([row.instances for row in rows]),
        framed_pixels=torch.stack(framed) if framed else None,
        frames=torch.tensor([row.frames for row in rows])
        if any(row.frames for row in rows)
        else None,
        region_truth=_region_truth([row.region_truth for row in rows]),
        extents=torch.tensor([row.extent for row in rows]),
    )


def _concatenated(arrays: Sequence[np.ndarray]) -> Tensor:
    """Concatenate arrays into memory that torch allocates, for the same alignment everywhere."""
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


def _numbered(counts: Sequence[int]) -> Int[Tensor, " n"]:
    """Return each row's number, repeated by its number of entries."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def _joined_instances(rows: Sequence[Instances]) -> Instances:
    first, cells = 0, []
    for row in rows:
        cells.append(torch.where(row.cells >= 0, row.cells + first, -1))
        first += len(row.boxes)
    return replace(_joined(rows), cells=torch.cat(cells))


def _joined_truth(
    rows: Sequence[Mapping[str, UnitTruth[Truth]]], starts: Sequence[int]
) -> dict[str, UnitTruth[Truth]]:
    """Concatenate the truth of all rows, with indices into the batch's references."""
    units = dict.fromkeys(unit for row in rows for unit in row)
    joined = {}
    for unit in units:
        found = [(row[unit], start) for row, start in zip(rows, starts, strict=True) if unit in row]
        index = torch.cat([one.index + start for one, start in found])
        joined[unit] = UnitTruth(index, _joined([one.truth for one, _ in found]))
    return joined


_T = TypeVar("_T", bound=Truth | Instances)


def _joined(parts: Sequence[_T]) -> _T:
    """Concatenate the tensors of dataclasses of one class, field by field."""
    names = [each.name for each in fields(parts[0])]
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **whole)
