"""Files as people and tools write them: read, or refused with the cause and a hint that helps."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_json, write_lines

from deixis.data.sources import open_source
from deixis.errors import AnnotationError
from deixis.geometry import Box

MARK = "\ufeff"
ROW = "0 0.5 0.5 0.5 0.5\n"


def _yolo(folder: Path, config: str, *names: str, rows: str = ROW) -> Path:
    for name in names or ("images/train/a.jpg",):
        path = picture(folder / name)
        label = Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(rows)
    if config:
        (folder / "data.yaml").write_text(config)
    return folder


def _found(spec: str) -> dict[str, int]:
    """How many instances each picture of a source has, none of it at fault."""
    return {key: len(one.instances) for key, one in samples(open_source(spec).source).items()}


# --- byte order marks, ends of lines, encodings


def test_marks_and_carriage_returns_are_no_text(tmp_path: Path) -> None:
    _yolo(
        tmp_path,
        f"{MARK}names: [cat, dog]\r\ntrain: train.txt\r\n",
        *("images/train/a.jpg", "images/train/b.jpg"),
        rows=f"{MARK}0 0.5 0.5 0.5 0.5\r\n{MARK}1 0.5 0.5 0.25 0.5\r\n",
    )
    (tmp_path / "train.txt").write_text(f"{MARK}images/train/a.jpg\r\nimages/train/b.jpg\r\n")
    assert _found(f"yolo:{tmp_path}") == {"images/train/a.jpg": 2, "images/train/b.jpg": 2}


def test_marks_before_lines_of_json_are_no_text(tmp_path: Path) -> None:
    line = {"image": "a.png", "width": 9, "height": 9}
    text = f"{MARK}{json.dumps(line)}\r\n{json.dumps(line | {'image': 'b.png'})}\r\n"
    (tmp_path / "a.jsonl").write_text(text)
    assert _found(f"jsonl:{tmp_path / 'a.jsonl'}") == {"a.png": 0, "b.png": 0}


def test_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "a.png"}', encoding="utf-16")
    with pytest.raises(AnnotationError, match="is UTF-16, expected UTF-8"):
        collect(open_source(f"jsonl:{tmp_path / 'a.jsonl'}").source)


# --- names


def test_a_line_of_a_list_is_a_name_to_its_end(tmp_path: Path) -> None:
    name = "WhatsApp Image 2024-01-02 at 10.11.12.jpeg"
    _yolo(tmp_path, "names: [cat]\ntrain: train.txt\n", f"images/train/{name}")
    (tmp_path / "train.txt").write_text(f"./images/train/{name}\n")
    assert _found(f"yolo:{tmp_path}") == {f"images/train/{name}": 1}


def _voc(folder: Path, name: str) -> None:
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    picture(folder / "JPEGImages" / f"{name}.jpg")
    (folder / "Annotations" / f"{name}.xml").write_text(
        "<annotation><size><width>64</width><height>48</height></size></annotation>"
    )


def test_lists_of_voc_have_names_with_blanks(tmp_path: Path) -> None:
    _voc(tmp_path, "IMG (1) 1")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text(f"{MARK}IMG (1) 1\r\n")
    assert _found(f"voc:{tmp_path},split=train") == {"IMG (1) 1": 0}
    (lists / "train.txt").write_text("2008_000001  1\n")
    with pytest.raises(
        AnnotationError, match="expected one name per line, got a list of the pictures"
    ):
        collect(open_source(f"voc:{tmp_path},split=train").source)


def _coco(folder: Path, file: str, image: str, **more: Any) -> Path:
    fields = {
        "images": [{"id": 1, "file_name": image, "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [9, 9, 9, 9]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    return write_json(folder / file, fields | more)


def test_backslashes_between_folders_are_slashes(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    path = _coco(tmp_path, "annotations.json", "images\\a.jpg")
    readings = collect(open_source(f"coco:{path}").source)
    assert notes(readings) == {"backslashes": 1}
    sample = readings["1"].sample
    assert sample is not None
    assert sample.image == tmp_path / "images" / "a.jpg"


def test_a_backslash_that_a_name_has_is_its_own(tmp_path: Path) -> None:
    picture(tmp_path / "images\\a.jpg")
    path = _coco(tmp_path, "annotations.json", "images\\a.jpg")
    (sample,) = samples(open_source(f"coco:{path}").source).values()
    assert sample.image == tmp_path / "images\\a.jpg"


@pytest.mark.parametrize("name", ["..\\a.jpg", "\\a.jpg", "C:\\a.jpg", "a\\..\\..\\b.jpg"])
def test_backslashes_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    path = _coco(tmp_path, "annotations.json", name)
    assert codes(collect(open_source(f"coco:{path}").source)) == {"path_escape": 1}


def test_yaml_and_lists_with_backslashes_find_their_pictures(tmp_path: Path) -> None:
    _yolo(tmp_path, "names: [cat]\ntrain: images\\train\nval: val.txt\n")
    (tmp_path / "val.txt").write_text("images\\train\\a.jpg\n")
    for split in ("train", "val"):
        assert _found(f"yolo:{tmp_path},split={split}") == {"images/train/a.jpg": 1}


def test_names_on_one_line_are_classes(tmp_path: Path) -> None:
    _yolo(tmp_path, "names: {0: cat, 1: dog}\ntrain: images/train\n")
    assert _found(f"yolo:{tmp_path}") == {"images/train/a.jpg": 1}


# --- YOLO without data.yaml


@pytest.mark.parametrize("name", ["classes.txt", "obj.names", "custom.yml"])
def test_classes_may_stand_in_other_files(tmp_path: Path, name: str) -> None:
    _yolo(tmp_path, "", "images/a.jpg", "images/b.jpg")
    text = "names: [cat]\ntrain: images\n" if name == "custom.yml" else "cat\r\n\r\ndog\r\n"
    (tmp_path / name).write_text(text)
    source = open_source(f"yolo:{tmp_path}").source
    found = samples(source)
    assert {key: one.instances[0].category for key, one in found.items()} == {
        "images/a.jpg": "cat",
        "images/b.jpg": "cat",
    }
    assert {one.split for one in found.values()} == {"train"}


def test_rows_may_lie_beside_their_pictures_and_the_classes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.jpg")
        (tmp_path / f"{name}.txt").write_text(ROW)
    (tmp_path / "classes.txt").write_text("cat\n")
    assert _found(f"yolo:{tmp_path}") == {"a.jpg": 1, "b.jpg": 1}
    # so do those that a tool saved into the folder of the pictures
    _yolo(tmp_path / "other", "names: [cat]\ntrain: images\n", "images/a.jpg")
    picture(tmp_path / "other" / "images" / "b.jpg")
    (tmp_path / "other" / "images" / "b.txt").write_text(ROW)
    assert _found(f"yolo:{tmp_path / 'other'}") == {"images/a.jpg": 1, "images/b.jpg": 1}


def test_darknet_names_its_lists_and_classes(tmp_path: Path) -> None:
    picture(tmp_path / "obj" / "a.jpg")
    (tmp_path / "obj" / "a.txt").write_text(ROW)
    (tmp_path / "obj.data").write_text(
        "classes = 1\ntrain  = data/train.txt\nvalid = data/test.txt\nnames = data/obj.names\n"
        "backup = backup/\n"
    )
    (tmp_path / "obj.names").write_text("cat\n")
    (tmp_path / "train.txt").write_text("obj/a.jpg\n")
    assert _found(f"yolo:{tmp_path},split=train") == {"obj/a.jpg": 1}


def test_splits_are_lists_or_folders(tmp_path: Path) -> None:
    _yolo(tmp_path, "", "train/images/a.jpg", "valid/images/b.jpg")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert _found(f"yolo:{tmp_path},split=train") == {"train/images/a.jpg": 1}
    assert _found(f"yolo:{tmp_path},split=val") == {"valid/images/b.jpg": 1}


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"expected data\.yaml, or one of"):
        open_source(f"yolo:{tmp_path}")
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("names: [cat]\ntrain: images\n")
    with pytest.raises(AnnotationError, match=r"has \['a\.yaml', 'b\.yaml'\]; name one"):
        open_source(f"yolo:{tmp_path}")
    (tmp_path / "images").mkdir()
    assert _found(f"yolo:{tmp_path / 'a.yaml'}") == {}


# --- Roboflow and RefCOCO


@pytest.mark.parametrize("splits", [["train"], ["train", "valid", "test"]])
def test_the_folders_of_roboflow_are_found(tmp_path: Path, splits: list[str]) -> None:
    for split in splits:
        picture(tmp_path / split / "a_jpg.rf.1.jpg")
        _coco(tmp_path / split, "_annotations.coco.json", "a_jpg.rf.1.jpg")
    for asked, split in {"train": "train", "val": "valid", "test": "test"}.items():
        if split not in splits:
            continue
        spec = f"coco:{tmp_path}" if len(splits) == 1 else f"coco:{tmp_path},split={asked}"
        for one in (spec, f"coco:{tmp_path / split}"):
            (sample,) = samples(open_source(one).source).values()
            assert sample.split == split
            assert sample.image == tmp_path / split / "a_jpg.rf.1.jpg"
    path = tmp_path / "train" / "_annotations.coco.json"
    (sample,) = samples(open_source(f"coco:{path}").source).values()
    assert sample.split == "train"


def test_a_folder_of_another_name_asks_for_the_file(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    _coco(tmp_path, "labels.json", "a.jpg")
    with pytest.raises(AnnotationError, match="hint: name the file, as in coco:") as caught:
        open_source(f"coco:{tmp_path}")
    # the hint can be followed
    (hint,) = re.findall(r"as in (coco:\S+)", str(caught.value))
    assert _found(hint) == {"1": 1}


def test_refs_are_found_in_a_folder_of_any_name_without_their_family(tmp_path: Path) -> None:
    _coco(tmp_path, "instances.json", "a.jpg")
    ref = {"image_id": 1, "ref_id": 1, "ann_id": 1, "split": "val", "sentences": [{"raw": "it"}]}
    write_json(tmp_path / "refs(unc).json", [ref])
    with pytest.raises(AnnotationError, match="expected one of") as caught:
        open_source(f"refcoco:{tmp_path},split=val")
    # the hint can be followed, with each of the families that it names
    assert "as in refcoco:PATH,split=val,family=appearance" in str(caught.value)
    for family in ("appearance", "location", "long"):
        found = samples(open_source(f"refcoco:{tmp_path},split=val,family={family}").source)
        assert [one.family for one in found["1"].expressions] == [family]
    write_json(tmp_path / "refs(umd).json", [ref])
    with pytest.raises(AnnotationError, match="say which, as in"):
        open_source(f"refcoco:{tmp_path},split=val,family=long")
    for rest in (f"{tmp_path},by=unc", f"{tmp_path / 'refs(umd).json'}"):
        assert _found(f"refcoco:{rest},split=val,family=long") == {"1": 1}


# --- hints that name an option can be followed


def _splits_of(form: str, folder: Path) -> None:
    """Files of a format in two splits."""
    if form == "coco":
        for split in ("train", "val"):
            _coco(folder / "annotations", f"instances_{split}.json", "a.jpg")
    elif form == "voc":
        _voc(folder, "a")
        (folder / "ImageSets" / "Main").mkdir(parents=True)
        for split in ("train", "val"):
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("a\n")
    elif form == "yolo":
        _yolo(folder, "names: [cat]\ntrain: images/train\nval: images/val\n")
        picture(folder / "images" / "val" / "b.jpg")
    elif form == "lvis":
        for split in ("train", "val"):
            _coco(folder, f"lvis_v1_{split}.json", "a.jpg")
    elif form == "coco_stuff":
        for split in ("train", "val"):
            _coco(folder, f"stuff_{split}.json", "a.jpg")
    elif form == "ade20k":
        for split in ("training", "validation"):
            picture(folder / "images" / split / "a.jpg")
            (folder / "annotations" / split).mkdir(parents=True)
        (folder / "objectInfo150.txt").write_text("wall\n")
    elif form == "cityscapes":
        for split in ("train", "val"):
            (folder / "gtFine" / split).mkdir(parents=True)
    elif form == "google_refexp":
        for split in ("train", "val"):
            write_json(
                folder / f"google_refexp_{split}_201511_coco_aligned.json",
                {"annotations": {}, "images": {}, "refexps": {}},
            )
    elif form == "panoptic":
        for split in ("train", "val"):
            content: dict[str, object] = {"images": [], "annotations": [], "categories": []}
            write_json(folder / f"panoptic_{split}.json", content)
            (folder / f"panoptic_{split}").mkdir()


@pytest.mark.parametrize(
    "form",
    [
        *("coco", "voc", "yolo", "lvis", "coco_stuff", "ade20k", "cityscapes", "google_refexp"),
        "panoptic",
    ],
)
def test_the_split_that_a_hint_names_can_be_asked_for(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    _splits_of(form, folder)
    with pytest.raises(AnnotationError, match="say which, as in") as caught:
        open_source(f"{form}:{folder}")
    (hint,) = re.findall(r"as in (\S+)", str(caught.value))
    assert hint.startswith(f"{form}:PATH,split=")
    open_source(hint.replace("PATH", str(folder)))


def test_lines_of_boxes_in_another_layout_have_an_option_that_helps(tmp_path: Path) -> None:
    line = {"image": "a.png", "width": 64, "height": 48, "box_format": "cxcywh"}
    path = write_lines(tmp_path / "a.jsonl", [line])
    (reading,) = collect(open_source(f"jsonl:{path}").source).values()
    assert reading.problems[0].detail == "box_format: expected xyxy or xywh, got 'cxcywh'"
    objects = [{"category": "cat", "box": [10, 10, 20, 20]}]
    for layout, box in (("xyxy", Box(10, 10, 20, 20)), ("xywh", Box(10, 10, 30, 30))):
        write_lines(path, [line | {"box_format": layout, "objects": objects}])
        (sample,) = samples(open_source(f"jsonl:{path}").source).values()
        assert sample.instances[0].box == box
