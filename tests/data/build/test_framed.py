"""Every combination of the size that a record states and the frame of its boxes."""

import json
from pathlib import Path
from typing import Any

import pytest
from data.build.test_upright import stored_turned
from data.sources.pictures import picture

from deixis.data.build import BuildPlan, check_sources
from deixis.data.build.block import BlockContent, make_parts
from deixis.data.build.framed import read_framed
from deixis.data.mixture import parse_mixture
from deixis.data.sources import Part, Reading, open_source
from deixis.data.sources.base import BadRecord
from deixis.data.tasks import TASKS
from deixis.errors import RecipeError
from deixis.geometry import Box, ImageSize, Orient

STORED, UPRIGHT = ImageSize(120, 200), ImageSize(200, 120)
INSIDE = Box(30, 50, 90, 90)
"""Fits both frames."""
LOW = Box(30, 150, 90, 190)
"""Fits only the upright frame."""


def _coco(folder: Path, size: ImageSize, box: Box, *, orientation: int = 6) -> Path:
    folder.mkdir(exist_ok=True)
    if orientation > 1:
        stored_turned(folder / "p.jpg", orientation, STORED)
    else:
        picture(folder / "p.jpg", 200, 120)
    image = {"id": 1, "file_name": "p.jpg", "width": size.width, "height": size.height}
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": list(box.to_xywh())}
    path = folder / "a.json"
    path.write_text(
        json.dumps(
            {"images": [image], "annotations": [one], "categories": [{"id": 1, "name": "cat"}]}
        )
    )
    return path


def _read(spec: str) -> Reading:
    source = open_source(spec)
    parts = [part for part in source.source.parts() if isinstance(part, Part)]
    parts.sort(key=lambda part: (part.kind, part.order))
    return read_framed(source, parts[0].key, parts)


def _box(reading: Reading) -> Box:
    assert reading.problems == ()
    assert reading.sample is not None
    (instance,) = reading.sample.instances
    return instance.box


@pytest.mark.parametrize("size", [STORED, UPRIGHT])
@pytest.mark.parametrize("frame", ["raw", "upright"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_declared_frame_holds_for_either_stated_size(
    tmp_path: Path, size: ImageSize, frame: str, orientation: int
) -> None:
    path = _coco(tmp_path, size, INSIDE, orientation=orientation)
    reading = _read(f"coco:{path},orientation={frame}")
    expected = Orient(STORED, orientation).apply(INSIDE) if frame == "raw" else INSIDE
    assert _box(reading) == expected
    assert reading.sample is not None
    assert reading.sample.size == UPRIGHT
    swapped = size != (STORED if frame == "raw" else UPRIGHT)
    assert dict(reading.notes).get("size_of_other_frame", 0) == swapped
    assert dict(reading.notes).get("turned_upright", 0) == (frame == "raw")


def test_a_box_outside_the_stated_size_may_fit_the_declared_frame(
    tmp_path: Path,
) -> None:
    path = _coco(tmp_path, STORED, LOW)
    assert _box(_read(f"coco:{path},orientation=upright")) == LOW
    # without a declaration, the box is outside the stored frame
    reading = _read(f"coco:{path},orientation=raw")
    assert [problem.code for problem in reading.problems] == ["box_outside"]


@pytest.mark.parametrize(
    ("size", "box", "kind", "hint"),
    [
        (STORED, LOW, "raw", "upright"),
        (UPRIGHT, Box(140, 30, 190, 90), "upright", "raw"),
    ],
)
def test_a_box_that_fits_only_the_other_frame_is_ambiguous(
    tmp_path: Path, size: ImageSize, box: Box, kind: str, hint: str
) -> None:
    path = _coco(tmp_path, size, box)
    with pytest.raises(BadRecord, match="orientation_ambiguous") as caught:
        _read(f"coco:{path}")
    assert f"of the {kind} size {size}, but box" in str(caught.value)
    assert f"say orientation={hint} if all boxes are of that frame" in str(caught.value)
    # the hint works
    assert _read(f"coco:{path},orientation={hint}").problems == ()


def test_a_box_that_fits_neither_frame_is_outside(tmp_path: Path) -> None:
    path = _coco(tmp_path, STORED, Box(300, 300, 400, 400))
    assert [problem.code for problem in _read(f"coco:{path}").problems] == ["box_outside"]


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_frames_with_equal_sizes_must_be_declared(tmp_path: Path, orientation: int) -> None:
    path = _coco(tmp_path, STORED, INSIDE, orientation=orientation)
    with pytest.raises(BadRecord, match="say orientation=raw or upright"):
        _read(f"coco:{path}")
    assert _box(_read(f"coco:{path},orientation=upright")) == INSIDE
    turned = Orient(STORED, orientation).apply(INSIDE)
    assert _box(_read(f"coco:{path},orientation=raw")) == turned


# --- sizes that match neither frame


def test_the_size_of_a_scaled_copy_is_refused_with_hints(tmp_path: Path) -> None:
    path = _coco(tmp_path, ImageSize(60, 100), Box(10, 20, 30, 40), orientation=1)
    with pytest.raises(BadRecord, match="annotated as 100x60, stored as 200x120; say") as caught:
        _read(f"coco:{path}")
    assert "sizes=scaled if the boxes are of that size" in str(caught.value)
    scaled = _read(f"coco:{path},sizes=scaled")
    assert (_box(scaled), dict(scaled.notes)) == (Box(20, 40, 60, 80), {"scaled_to_file": 1})
    taken = _read(f"coco:{path},sizes=file")
    assert (_box(taken), dict(taken.notes)) == (Box(10, 20, 30, 40), {"size_of_file_taken": 1})


def test_a_size_with_another_aspect_ratio_is_not_a_copy(tmp_path: Path) -> None:
    path = _coco(tmp_path, ImageSize(100, 100), Box(10, 20, 30, 40), orientation=1)
    for option in ("", ",sizes=scaled"):
        with pytest.raises(BadRecord, match="say sizes=file if the boxes are of the file's size"):
            _read(f"coco:{path}{option}")
    assert _box(_read(f"coco:{path},sizes=file")) == Box(10, 20, 30, 40)


@pytest.mark.parametrize("size", [ImageSize(60, 100), ImageSize(100, 60)])
@pytest.mark.parametrize("frame", ["raw", "upright"])
def test_a_scaled_copy_of_a_turned_picture_has_a_frame(
    tmp_path: Path, size: ImageSize, frame: str
) -> None:
    path = _coco(tmp_path, size, Box(15, 25, 45, 45))
    reading = _read(f"coco:{path},sizes=scaled,orientation={frame}")
    twice = Box(30, 50, 90, 90)
    assert _box(reading) == (twice if frame == "upright" else Orient(STORED, 6).apply(twice))


# --- formats without a size, or with other size fields


@pytest.mark.parametrize(
    ("frame", "box"), [("", Box(30, 50, 90, 150)), ("raw", Box(30, 50, 90, 150))]
)
def test_normalised_coordinates_refer_to_the_declared_frame(
    tmp_path: Path, frame: str, box: Box
) -> None:
    stored_turned_folder = tmp_path / "images"
    stored_turned_folder.mkdir()
    stored_turned(stored_turned_folder / "p.jpg", 6, STORED)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "p.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\n")
    option = f",orientation={frame}" if frame else ""
    assert _box(_read(f"yolo:{tmp_path}{option}")) == box
    (tmp_path / "labels" / "p.txt").write_text("0 0.25 0.5 0.5 0.5\n")
    # the left half of the stored picture is the upper half of the upright one
    expected = Box(0, 50, 60, 150) if not frame else Box(30, 0, 90, 100)
    assert _box(_read(f"yolo:{tmp_path}{option}")) == expected


@pytest.mark.parametrize("form", ["jsonl", "voc", "label_studio"])
def test_every_format_reads_in_the_declared_frame(tmp_path: Path, form: str) -> None:
    stored_turned(tmp_path / "p.jpg", 6, STORED)
    line: Any
    if form == "jsonl":
        objects = [{"category": "cat", "box": [30, 150, 90, 190]}]
        line = {"image": "p.jpg", "width": 200, "height": 120, "objects": objects}
        (tmp_path / "a.jsonl").write_text(json.dumps(line))
        spec = f"jsonl:{tmp_path / 'a.jsonl'}"
    elif form == "voc":
        (tmp_path / "p.xml").write_text(
            "<annotation><size><width>200</width><height>120</height></size><object><name>cat</name>"
            "<bndbox><xmin>31</xmin><ymin>151</ymin><xmax>90</xmax><ymax>190</ymax></bndbox>"
            "</object></annotation>"
        )
        spec = f"voc:{tmp_path}"
    else:
        value = {"x": 25, "y": 75, "width": 50, "height": 20, "rectanglelabels": ["cat"]}
        result: dict[str, object] = {"id": "a", "type": "rectanglelabels", "value": value}
        result |= {"original_width": 200, "original_height": 120}
        task = {"id": 1, "data": {"image": "p.jpg"}, "annotations": [{"result": [result]}]}
        (tmp_path / "tasks.json").write_text(json.dumps([task]))
        spec = f"label_studio:{tmp_path}"
    assert _box(_read(f"{spec},orientation=upright")) == LOW


def test_orientation_and_sizes_need_image_headers(tmp_path: Path) -> None:
    path = _coco(tmp_path, STORED, INSIDE)
    for option in ("orientation=upright", "sizes=file"):
        with pytest.raises(RecipeError, match="orientation and sizes need image headers"):
            check_sources([open_source(f"coco:{path},{option}")], check_images=False)
    with pytest.raises(RecipeError, match="sizes 'any': expected one of"):
        open_source(f"coco:{path},sizes=any")


def test_builds_count_images_read_in_another_frame(tmp_path: Path) -> None:
    source = open_source(f"coco:{_coco(tmp_path, STORED, LOW)},orientation=upright")
    plan = BuildPlan((source,), parse_mixture("detection", known=TASKS))
    content = BlockContent()
    parts = [part for part in source.source.parts() if isinstance(part, Part)]
    make_parts(plan, [(0, "1", sorted(parts, key=lambda one: one.kind))], content)
    assert content.notes["coco", "size_of_other_frame"] == 1
    assert content.rows[0]["height"] == 200
    assert '"box":[30.0,150.0,90.0,190.0]' in content.rows[0]["turns"].replace(" ", "")
