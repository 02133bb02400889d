"""Exports: quarantine, pictures and image ids."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.export.exported import export, opened, scenes
from data.sources.pictures import picture
from data.sources.reading import samples, write_lines

from deixis.data.build.check import check_sources
from deixis.data.export import EXPORT_FORMATS, export_samples
from deixis.data.sources.base import Part, Reading, Source
from deixis.data.sources.coco import open_coco
from deixis.data.sources.jsonl import JsonLines, open_jsonl
from deixis.data.sources.label_studio import open_label_studio
from deixis.data.sources.yolo import open_yolo
from deixis.errors import BudgetError, RecipeError, StorageError
from deixis.geometry import Box, ImageSize, Keypoints
from deixis.structures import Instance, Sample


def _lines(folder: Path, *records: dict[str, Any], name: str = "jsonl") -> JsonLines:
    for record in records:
        file = folder / str(record["image"])
        if not file.exists():
            picture(file, 64, 48)
    return open_jsonl(write_lines(folder / "own.jsonl", records), name=name)


BOX = {"category": "cup", "box": [4, 4, 20, 20]}
POLYGON = [[4, 4, 20, 4, 20, 20]]


def test_bad_records_are_listed_and_do_not_change_the_others(tmp_path: Path) -> None:
    good = {"image": "a.png", "objects": [BOX]}
    partly = {"image": "b.png", "objects": [BOX, {"category": "cup", "box": [9, 9, 1, 1]}]}
    lost = {"image": "c.png", "objects": [BOX], "width": 5, "height": 5}
    source = _lines(tmp_path / "in", good, partly, lost)
    with (tmp_path / "in" / "own.jsonl").open("a") as file:
        file.write("no json\n")
    done = export(tmp_path, "coco", source, budget=1)
    assert (done.report.images, done.report.written, done.report.quarantined) == (3, 2, 1)
    assert (done.report.partly, done.report.records, done.report.lost) == (1, 2, 1)
    assert done.report.share_at_problem == 3 / 4
    assert [(one["key"], one["code"], one["scope"]) for one in done.quarantine] == [
        ("", "bad_json", "record"),
        ("b.png", "box_degenerate", "record"),
        ("c.png", "size_mismatch", "image"),
    ]
    assert done.quarantine[1]["place"] == "own.jsonl: line 2, objects[1]"
    clean = _lines(tmp_path / "clean", good, {"image": "b.png", "objects": [BOX]})
    other = export(tmp_path / "other", "coco", clean)
    for one in (done, other):
        assert one.report.written == 2
    name = "annotations/instances_all.json"
    assert (done.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_an_export_over_budget_stops_and_keeps_the_quarantine_file(tmp_path: Path) -> None:
    records = [{"image": "a.png", "id": str(number), "objects": [BOX]} for number in range(99)]
    source = _lines(tmp_path / "in", *records, {"image": "../a.png", "id": "bad"})
    export(tmp_path / "just", "jsonl", source, budget=0.01)
    with pytest.raises(
        BudgetError, match=r"1 of 100 images have problems, .* 0\.900%: path_escape 1"
    ):
        export(tmp_path / "over", "jsonl", source, budget=0.009)
    (problem,) = (tmp_path / "over" / "faults.jsonl").read_text().splitlines()
    assert json.loads(problem)["code"] == "path_escape"


@pytest.mark.parametrize("form", sorted(EXPORT_FORMATS))
def test_an_empty_source_can_be_exported(tmp_path: Path, form: str) -> None:
    done = export(tmp_path, form, _lines(tmp_path / "in"))
    assert (done.report.images, done.report.share_at_problem) == (0, 0)
    assert any(done.folder.iterdir())


def test_numeric_image_ids_are_kept(tmp_path: Path) -> None:
    source = _lines(tmp_path / "in", {"image": "a.png", "id": 391895}, {"image": "a.png", "id": 7})
    out = export(tmp_path, "coco", source).folder
    images = json.loads((out / "annotations" / "instances_all.json").read_text())["images"]
    assert sorted(image["id"] for image in images) == [7, 391895]


def test_images_of_several_sources_get_unique_numbers_and_keys(tmp_path: Path) -> None:
    one = _lines(tmp_path / "one", {"image": "a.png", "id": 5, "objects": [BOX]}, name="one")
    two = _lines(tmp_path / "two", {"image": "a.png", "id": 5, "objects": [BOX]}, name="two")
    for copied in (False, True):
        done = export(tmp_path / str(copied), "jsonl", one, two, copy_images=copied)
        root = done.folder if copied else done.report.root
        assert root == (done.folder if copied else tmp_path)
        found = samples(open_jsonl(done.folder / "samples.jsonl", images=root))
        assert list(found) == ["one/5", "two/5"]
        assert all(Path(str(sample.image)).is_file() for sample in found.values())
    done = export(tmp_path / "coco", "coco", one, two, copy_images=True)
    assert list(samples(open_coco(done.folder))) == ["1", "2"]
    done = export(tmp_path / "yolo", "yolo", one, two)
    assert list(samples(open_yolo(done.folder))) == [
        "images/all/one_a.png",
        "images/all/two_a.png",
    ]


def test_each_split_of_coco_has_separate_files(tmp_path: Path) -> None:
    records = [
        {"image": f"{split}.png", "split": split, "objects": [BOX], "captions": ["A cup."]}
        for split in ("train", "val", "../../x")
    ]
    done = export(tmp_path, "coco", _lines(tmp_path / "in", *records), copy_images=True, budget=1)
    names = sorted(path.name for path in (done.folder / "annotations").iterdir())
    # the name of the third picture leaves its folder
    assert names == [
        f"{kind}_{s}.json" for kind in ("captions", "instances") for s in ("train", "val")
    ]
    for split in ("train", "val"):
        (sample,) = samples(open_coco(done.folder, split=split)).values()
        assert sample.image == done.folder / "images" / split / f"{split}.png"
    many = [{"image": "a.png", "id": str(n), "split": f"s{n}"} for n in range(17)]
    for form in ("coco", "yolo"):
        with pytest.raises(RecipeError, match="more than 16 splits"):
            export(tmp_path / form, form, _lines(tmp_path / f"in{form}", *many))


def test_a_hostile_split_name_does_not_become_a_path(tmp_path: Path) -> None:
    record = {"image": "a.png", "split": "../../../x y", "objects": [BOX]}
    for form in ("coco", "yolo"):
        done = export(tmp_path / form, form, _lines(tmp_path / "in", record), copy_images=True)
        assert (done.folder / "images" / "x_y" / "a.png").is_file()


def test_flat_names_are_unique(tmp_path: Path) -> None:
    names = ("a/b.png", "a_b.png", "a_b.jpg", "images/c.png")
    records = [{"image": name, "id": name, "objects": [BOX]} for name in names]
    done = export(tmp_path, "yolo", _lines(tmp_path / "in", *records))
    found = samples(open_yolo(done.folder))
    assert [key.removeprefix("images/all/") for key in found] == [
        *("a_b-2.jpg", "a_b-3.png", "a_b.png", "images_c.png"),
    ] or len(found) == 4
    assert all(len(sample.instances) == 1 for sample in found.values())


@pytest.mark.parametrize(("copied", "links"), [(False, 2), (True, 1)])
def test_pictures_of_yolo_are_links_or_copies(tmp_path: Path, *, copied: bool, links: int) -> None:
    source = _lines(tmp_path / "in", {"image": "a.png", "objects": [BOX]})
    done = export(tmp_path, "yolo", source, copy_images=copied)
    file = done.folder / "images" / "all" / "a.png"
    assert file.stat().st_nlink == links
    assert not file.is_symlink()
    assert file.read_bytes() == (tmp_path / "in" / "a.png").read_bytes()


def test_drawn_pictures_must_be_written(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"have no files.*\nhint: use deixis data export FORMAT --copy-images"
    ):
        export(tmp_path, "coco", scenes(1))


def test_unknown_formats_and_choices_are_refused(tmp_path: Path) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("csv", {}, "format 'csv': expected one of"),
        ("yolo", {"rows": "ellipses"}, "rows 'ellipses': expected one of"),
        ("yolo", {"rows": "keypoints"}, "no instance has any"),
        ("label_studio", {"results": "guesses"}, "results 'guesses': expected one of"),
    ]
    for number, (form, options, words) in enumerate(cases):
        source = _lines(tmp_path / "in", {"image": "a.png", "objects": [BOX]})
        with pytest.raises(RecipeError, match=words):
            export(tmp_path / str(number), form, source, **options)


def test_a_failed_write_is_a_storage_error(tmp_path: Path) -> None:
    source = _lines(tmp_path / "in", {"image": "a.png", "objects": [BOX]})
    out = tmp_path / "out"
    out.mkdir()
    (out / "labels").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        export_samples([opened(source)], "yolo", out, quarantine=tmp_path / "faults.jsonl")


def test_yolo_counts_contents_that_rows_cannot_hold(tmp_path: Path) -> None:
    plain = BOX | {"box": [30, 4, 44, 20]}
    masked = BOX | {"mask": POLYGON}
    crowd = BOX | {"crowd": True, "mask": POLYGON}
    source = _lines(tmp_path / "in", {"image": "a.png", "objects": [plain, masked, crowd]})
    done = export(tmp_path / "auto", "yolo", source)
    (sample,) = samples(open_yolo(done.folder)).values()
    assert [one.mask for one in sample.instances] == [None, None]
    assert done.report.not_carried["masks"] == 2
    assert done.report.not_carried["crowds"] == 1
    done = export(tmp_path / "polygons", "yolo", source, rows="polygons")
    (sample,) = samples(open_yolo(done.folder)).values()
    assert done.report.not_carried["boxes without a mask, written as rectangles"] == 1
    assert [one.box for one in sample.instances] == [Box(30, 4, 44, 20), Box(4, 4, 20, 20)]
    checkers = np.indices((150, 150)).sum(axis=0) % 2 == 0
    coded = {"size": [150, 150], "counts": _counts(checkers)}
    picture(tmp_path / "in" / "b.png", 150, 150)
    ragged = {"category": "cup", "box": [0, 0, 150, 150], "mask": coded}
    source = _lines(tmp_path / "in", {"image": "b.png", "objects": [ragged]})
    done = export(tmp_path / "ragged", "yolo", source)
    assert done.report.not_carried["masks of too many corners or none, written as rectangles"] == 1


def _counts(array: np.ndarray) -> list[int]:
    flat = array.T.ravel()
    bounds = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], bounds, [flat.size]))).tolist()
    return [0, *runs] if flat[0] else runs


def test_keypoints_with_other_names_are_left_out_and_counted(tmp_path: Path) -> None:
    def thing(*names: str) -> dict[str, Any]:
        flat = [value for _ in names for value in (8, 8, 2)]
        return BOX | {"keypoints": flat, "keypoint_names": list(names)}

    source = _lines(tmp_path / "in", {"image": "a.png", "objects": [thing("tip"), thing("rim")]})
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("coco", {}, "keypoints of other names than their class has"),
        ("yolo", {"rows": "keypoints"}, "keypoints of other names than the first"),
    ]
    for form, options, words in cases:
        done = export(tmp_path / form, form, source, **options)
        assert done.report.not_carried[words] == 1
    lines = export(tmp_path / "lines", "jsonl", source).folder / "samples.jsonl"
    first, second = samples(open_jsonl(lines, images=tmp_path / "in"))["a.png"].instances
    assert first.keypoints is not None
    assert second.keypoints is not None
    assert (first.keypoints.names, second.keypoints.names) == (("tip",), ("rim",))


def test_unusual_labels_and_texts_read_back(tmp_path: Path) -> None:
    names = ['a "b" & <c>', "it's: # no", "- x", "naïve 猫", "no", "{0}"]
    objects = [BOX | {"category": name} for name in names]
    record = {"image": "ä b.png", "objects": objects, "captions": ['He said "no".\nThen &lt;.']}
    source = _lines(tmp_path / "in", record)
    readers: dict[str, Callable[[Path], Source]] = {
        "coco": open_coco,
        "label_studio": open_label_studio,
        "yolo": open_yolo,
    }
    for form, reader in readers.items():
        done = export(tmp_path / form, form, source, copy_images=True)
        (sample,) = samples(reader(done.folder)).values()
        assert [one.category for one in sample.instances] == names
        assert Path(str(sample.image)).is_file()
        if form != "yolo":
            assert sample.captions[0].text == record["captions"][0]


def test_a_rotated_picture_is_exported_in_the_source_frame(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.jpg", 64, 48, orientation=6)
    source = _lines(
        tmp_path / "in",
        {
            "image": "a.jpg",
            "width": 64,
            "height": 48,
            "objects": [{"category": "cup", "box": [0, 0, 10, 5]}],
        },
    )
    done = export(tmp_path, "coco", source, copy_images=True)
    assert done.report.normalised["turned_upright"] == 1
    (sample,) = samples(open_coco(done.folder)).values()
    assert sample.size == ImageSize(64, 48)
    assert sample.instances[0].box == Box(43, 0, 48, 10)
    assert check_sources([opened(open_coco(done.folder))]).reasons.total() == 0


@dataclass(frozen=True)
class _Made:
    """A source of one image with a given sample."""

    made: Sample
    images: Path
    name: str = "made"
    files: tuple[str, ...] = ()

    def parts(self) -> Any:
        yield Part("a", "image", "", "line 1", "{}")

    def sample(self, key: str, parts: Any) -> Reading:
        assert key == "a"
        assert parts
        if not self.made.instances:
            raise ZeroDivisionError("a fault of ours")
        return Reading(self.made)


def test_code_errors_are_problems_of_the_image(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    made = Sample("made/a", tmp_path / "a.png", ImageSize(48, 64))
    done = export(tmp_path / "x", "jsonl", _Made(made, tmp_path), budget=1)
    assert done.quarantine[0]["detail"] == "ZeroDivisionError: a fault of ours"
    outside = replace(made, instances=(Instance("cup", Box(0, 0, 9, 9)),))
    picture(tmp_path / "b" / "c.png")
    done = export(tmp_path / "y", "yolo", _Made(outside, tmp_path / "b"), budget=1)
    assert done.quarantine[0]["code"] == "path_escape"
    keypoints = Keypoints(np.zeros((1, 2), np.float32), np.zeros(1, np.int8), ("tip",))
    absent = replace(made, instances=(Instance("cup", Box(0, 0, 9, 9), keypoints=keypoints),))
    assert export(tmp_path / "z", "coco", _Made(absent, tmp_path)).report.written == 1


def test_coco_files_have_the_fields_of_coco(tmp_path: Path) -> None:
    source = _lines(tmp_path / "in", {"image": "a.png", "id": 3, "objects": [BOX]})
    out = export(tmp_path, "coco", source).folder
    assert json.loads((out / "annotations" / "instances_all.json").read_text()) == {
        "info": {"description": "exported by deixis", "split": "all"},
        "licenses": [],
        "categories": [{"id": 1, "name": "cup", "supercategory": ""}],
        "images": [{"id": 3, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [
            {
                "id": 1,
                "image_id": 3,
                "category_id": 1,
                "bbox": [4.0, 4.0, 16.0, 16.0],
                "area": 256.0,
                "segmentation": [],
                "iscrowd": 0,
            }
        ],
    }
