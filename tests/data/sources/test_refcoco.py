import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.sources.reading import codes, collect, samples, write_json
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.scenes.export import write_scenes
from deixis.data.sources.reading.streaming import list_elements
from deixis.data.sources.refcoco import coco_file_name, in_split, open_refcoco
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.structures import Expression

NAME = "COCO_train2014_000000000009.jpg"


def _ref(number: int = 1, **changed: Any) -> dict[str, Any]:
    made = {
        "ref_id": number,
        "ann_id": 100,
        "image_id": 9,
        "category_id": 1,
        "split": "train",
        "file_name": "COCO_train2014_000000000009_0.jpg",
        "sent_ids": [number],
        "sentences": [
            {"sent_id": number, "raw": "The Man!", "sent": "the man", "tokens": ["the", "man"]}
        ],
    }
    return {name: value for name, value in {**made, **changed}.items() if value is not ...}


def _annotation(number: int = 100, **changed: Any) -> dict[str, Any]:
    made = {
        "id": number,
        "image_id": 9,
        "category_id": 1,
        "bbox": [1, 2, 10, 5],
        "segmentation": [[1, 2, 11, 2, 11, 7, 1, 7]],
        "iscrowd": 0,
    }
    return {name: value for name, value in {**made, **changed}.items() if value is not ...}


IMAGE = {"id": 9, "file_name": NAME, "width": 40, "height": 20}


def _write(root: Path, refs: Any, *annotations: Any, images: Any = (IMAGE,)) -> Path:
    folder = root / "refcoco"
    write_json(folder / "refs(unc).json", refs)
    content = {
        "images": list(images),
        "annotations": list(annotations) or [_annotation()],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
    }
    write_json(folder / "instances.json", content)
    return folder


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["refs(unc).p", "refs(unc).json", ""])
def test_a_true_ref_without_its_image_is_a_problem(shared_data: Path, name: str) -> None:
    source = open_refcoco(shared_data / "formats" / "refcoco" / name, split="train")
    readings = collect(source)
    assert list(readings) == ["581857"]
    assert readings["581857"].sample is None
    assert codes(readings) == {"unknown_image": 1}
    assert "1719310" in readings["581857"].problems[0].detail


@pytest.mark.shared_data
def test_a_true_ref_is_joined_to_an_annotation(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "formats" / "refcoco"
    (true,) = (element.value for element in list_elements(folder / "refs(unc).json"))
    content = json.loads((folder / "instances.json").read_text())
    write_json(tmp_path / "refcoco" / "instances.json", content)
    joined = [{**true, "image_id": 98304, "ann_id": 3007}, {**true, "image_id": 98304, "ref_id": 1}]
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(joined, protocol=2))
    readings = collect(open_refcoco(tmp_path / "refcoco", split="train"))
    sample = readings["98304"].sample
    assert sample is not None
    assert codes(readings) == {"unknown_annotation": 1}
    assert [(one.text, one.instances) for one in sample.expressions] == [
        ("THE LADY WITH THE BLUE SHIRT", (0,)),
        ("lady w back to us", (0,)),
        ("blue shirt", (0,)),
    ]
    (dog,) = sample.instances
    assert (dog.category, dog.box) == ("dog", Box(263.87, 216.88, 263.87 + 21.13, 216.88 + 15.17))
    assert dog.mask is not None
    assert abs(dog.mask.area - 197.3) < 12
    assert sample.image == tmp_path / "refcoco" / "COCO_train2014_000000098304.jpg"
    assert sample.size == ImageSize(424, 640)


@pytest.mark.parametrize("family", ["location", "appearance", "long"])
@pytest.mark.parametrize("pickled", [False, True])
def test_drawn_scenes_read_back_exactly(tmp_path: Path, family: str, *, pickled: bool) -> None:
    write_scenes(tmp_path, split="val", count=5, format="refcoco", level="hard", seed=7)
    path = tmp_path / f"refs_{family}_val.json"
    if pickled:
        path = tmp_path / f"refs_{family}_val.p"
        path.write_bytes(pickle.dumps(json.loads(path.with_suffix(".json").read_text())))
    found = samples(open_refcoco(path, split="val"))
    total = 0
    for index in range(5):
        drawn = scene_sample(draw_scene(7, index, level="hard", split="val"))
        expected = [
            Expression(one.text, one.instances, family)
            for one in drawn.expressions
            if one.family == family and len(one.instances) == 1
        ]
        # an image without refs is none of the set's
        assert (str(index + 1) in found) == bool(expected)
        if not expected:
            continue
        read = found[str(index + 1)]
        total += len(expected)
        key = lambda one: (one.instances, one.text)  # noqa: E731
        assert sorted(read.expressions, key=key) == sorted(expected, key=key)
        assert [(one.category, one.box, one.mask, one.crowd) for one in read.instances] == [
            (one.category, one.box, one.mask, one.crowd) for one in drawn.instances
        ]
        assert (read.size, read.split, read.exhaustive) == (drawn.size, "val", True)
        assert read.image == tmp_path / "images" / f"val_{index + 1:06d}.png"
    assert total


@pytest.mark.parametrize("split", ["testA", "testB"])
def test_test_splits_of_drawn_scenes_are_found_in_a_folder(tmp_path: Path, split: str) -> None:
    write_scenes(tmp_path, split=split, count=8, format="refcoco")
    found = samples(open_refcoco(tmp_path, split=split, family="location"))
    for sample in found.values():
        for one in sample.expressions:
            (index,) = one.instances
            assert (sample.instances[index].category == "person") == (split == "testA")
    assert found
    with pytest.raises(AnnotationError, match=r"has \['refs_appearance_.*say which"):
        open_refcoco(tmp_path, split=split)


def _rows(refs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the copies on the Hub have them."""
    annotation = _annotation()
    return [
        {
            **ref,
            "raw_anns": json.dumps(annotation),
            "raw_image_info": json.dumps(IMAGE),
            "raw_sentences": json.dumps(ref["sentences"]),
            "image_path": f"coco/train2014/{NAME}",
            "bbox": [1.0, 2.0, 11.0, 7.0],
            "captions": ["the man"],
            "global_image_id": "coco.9",
        }
        for ref in refs
    ]


def test_a_parquet_copy_gives_its_refs(tmp_path: Path) -> None:
    folder = tmp_path / "refcoco"
    folder.mkdir()
    table = pa.Table.from_pylist(_rows([_ref(1), _ref(2), _ref(3, split="val")]))
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    (sample,) = samples(open_refcoco(folder, split="train")).values()
    (instance,) = sample.instances
    assert (instance.category, instance.box) == ("person", Box(1, 2, 11, 7))
    assert instance.mask is not None
    assert sample.expressions == (Expression("The Man!", (0,), "location"),) * 2
    assert (sample.size, sample.image) == (ImageSize(20, 40), folder / NAME)
    # one annotation is not all that is to be seen
    assert not sample.exhaustive


def test_a_parquet_copy_can_be_joined_or_hold_only_boxes(tmp_path: Path) -> None:
    folder = tmp_path / "refcocoplus"
    folder.mkdir()
    bare = [
        {
            **{name: _ref(1)[name] for name in ("ref_id", "ann_id", "image_id", "category_id")},
            "bbox": [1, 2, 11, 7],
            "captions": ["the man"],
            "height": 20,
            "width": 40,
            "file_name": "COCO_train2014_000000000009_0.jpg",
        }
    ]
    path = folder / "x.parquet"
    pq.write_table(pa.Table.from_pylist(bare), path)
    (sample,) = samples(open_refcoco(path, split="train")).values()
    assert sample.instances[0].box == Box(1, 2, 11, 7)
    assert sample.image == folder / NAME
    assert sample.expressions == (Expression("the man", (0,), "appearance"),)
    (other,) = samples(open_refcoco(path, split="train", box_layout="xywh")).values()
    assert other.instances[0].box == Box(1, 2, 12, 9)
    instances = _write(tmp_path, [], _annotation(), _annotation(101, bbox=[0, 0, 4, 4]))
    (joined,) = samples(
        open_refcoco(path, split="train", instances=instances / "instances.json")
    ).values()
    assert [one.box for one in joined.instances] == [Box(1, 2, 11, 7), Box(0, 0, 4, 4)]
    assert joined.exhaustive


def test_rows_that_disagree_about_their_image_are_a_problem(tmp_path: Path) -> None:
    rows = _rows([_ref(1), _ref(2)])
    rows[1]["raw_image_info"] = json.dumps({**IMAGE, "width": 41})
    rows += [{**one, "image_id": 10} for one in _rows([_ref(1)])]
    rows[2]["raw_image_info"] = "{"
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    readings = collect(open_refcoco(path, split="train", family="long"))
    assert codes(readings) == {"duplicate_image": 1, "bad_json": 1}


def test_a_parquet_file_of_another_kind_or_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"question": ["what"]}), path)
    source = open_refcoco(path, split="val", family="long")
    with pytest.raises(AnnotationError, match="expected columns ref_id, image_id"):
        collect(source)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(AnnotationError, match="damaged"):
        collect(source)
    path.unlink()
    with pytest.raises(AnnotationError, match="expected a Parquet file"):
        collect(source)


def test_the_wording_is_a_choice(tmp_path: Path) -> None:
    sentences = [{"raw": "A Man", "sent": "a man"}, {"sent": "him"}, {"raw": "HIM"}, "he"]
    folder = _write(tmp_path, [_ref(sentences=sentences)])
    for wording, expected in (
        ("raw", ["A Man", "him", "HIM", "he"]),
        ("sent", ["a man", "him", "HIM", "he"]),
    ):
        (sample,) = samples(open_refcoco(folder, split="train", wording=wording)).values()
        assert [one.text for one in sample.expressions] == expected


def test_only_images_with_refs_of_the_split_are_read(tmp_path: Path) -> None:
    other = {**IMAGE, "id": 10}
    folder = _write(
        tmp_path,
        [_ref(1, split="val"), _ref(2, split="testA", image_id=10, ann_id=101)],
        _annotation(),
        _annotation(101, image_id=10),
        images=(IMAGE, other),
    )
    assert list(samples(open_refcoco(folder, split="val"))) == ["9"]
    assert list(samples(open_refcoco(folder, split="testA"))) == ["10"]
    assert list(samples(open_refcoco(folder, split="test"))) == ["10"]
    everything = samples(open_refcoco(folder, split="all"))
    assert {key: sample.split for key, sample in everything.items()} == {"9": "", "10": ""}
    with pytest.raises(
        AnnotationError, match=r"no refs of split 'testB', found \['testA', 'val'\]"
    ):
        collect(open_refcoco(folder, split="testB"))


@given(letters=st.text("ABC", max_size=3))
def test_splits_are_matched_as_the_toolkit_does(letters: str) -> None:
    for letter in "ABC":
        assert in_split(f"test{letters}", f"test{letter}") == (letter in letters)
    assert in_split(f"test{letters}", "test")
    assert not in_split(f"test{letters}", "train")


@given(number=st.integers(0, 10**12 - 1), annotation=st.integers(0, 10**7))
def test_file_names_lose_the_trailing_number(number: int, annotation: int) -> None:
    name = f"COCO_train2014_{number:012d}.jpg"
    assert coco_file_name(name.replace(".jpg", f"_{annotation}.jpg")) == name
    assert coco_file_name(name) == name
    assert coco_file_name("8756_2.jpg") == "8756_2.jpg"


@pytest.mark.parametrize(
    ("folder", "family", "exhaustive"),
    [
        ("refcoco", "location", True),
        ("refcoco+", "appearance", True),
        ("refcocog", "long", True),
        ("refclef", "location", False),
    ],
)
def test_the_family_follows_from_the_official_folder(
    tmp_path: Path, folder: str, family: str, *, exhaustive: bool
) -> None:
    place = _write(tmp_path, [_ref(ann_id="9_1")], _annotation("9_1"))  # type: ignore[arg-type]
    place.rename(tmp_path / folder)
    images = "saiapr_tc-12" if folder == "refclef" else "mscoco/images/train2014"
    (tmp_path / "images" / images).mkdir(parents=True)
    (sample,) = samples(open_refcoco(tmp_path / folder, split="train")).values()
    assert sample.expressions[0].family == family
    assert sample.image == tmp_path / "images" / images / NAME
    assert sample.exhaustive == exhaustive


def test_ambiguous_files_need_an_option(tmp_path: Path) -> None:
    folder = _write(tmp_path, [_ref()])
    for split in ("", "dev"):
        with pytest.raises(AnnotationError, match="expected one of"):
            open_refcoco(folder, split=split)
    with pytest.raises(AnnotationError, match="wording"):
        open_refcoco(folder, split="val", wording="tokens")
    write_json(folder / "refs(google).json", [])
    with pytest.raises(AnnotationError, match="say which"):
        open_refcoco(folder, split="val")
    assert open_refcoco(folder, split="val", by="google").refs[0].name == "refs(google).json"
    with pytest.raises(AnnotationError, match="expected refs"):
        open_refcoco(folder, split="val", by="umd")
    with pytest.raises(AnnotationError, match="does not exist"):
        open_refcoco(tmp_path / "none", split="val")
    other = folder.rename(tmp_path / "mine")
    with pytest.raises(AnnotationError, match="family ''"):
        open_refcoco(other, split="val", by="unc")
    (other / "instances.json").unlink()
    with pytest.raises(AnnotationError, match=r"expected instances\.json"):
        open_refcoco(other, split="val", by="unc", family="long")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"ann_id": 404}, "unknown_annotation"),
        ({"ann_id": None}, "bad_number"),
        ({"ann_id": ...}, "bad_record"),
        ({"ann_id": math.nan}, "bad_record"),
        ({"ann_id": True}, "bad_number"),
        ({"ref_id": ...}, "bad_record"),
        ({"ref_id": [1]}, "bad_number"),
        ({"ref_id": 1}, "duplicate_annotation"),
        ({"image_id": ...}, "bad_record"),
        ({"image_id": 404}, "unknown_image"),
        ({"split": 7}, "bad_record"),
        ({"sentences": ...}, "bad_record"),
        ({"sentences": "the man"}, "bad_record"),
        ({"sentences": [{"raw": ""}]}, "bad_text"),
        ({"sentences": [{"raw": 5}]}, "bad_record"),
        ({"sentences": [{"tokens": []}]}, "bad_record"),
        ({"sentences": [None]}, "bad_record"),
        ({"sentences": [{"raw": "\ud800"}]}, "bad_encoding"),
        ({"sentences": [{"raw": "a\0b"}]}, "bad_text"),
    ],
)
@pytest.mark.parametrize("pickled", [False, True])
def test_a_ref_that_cannot_be_used_is_a_problem(
    tmp_path: Path, changed: dict[str, Any], code: str, *, pickled: bool
) -> None:
    refs = [_ref(1), _ref(**{"number": 2, **changed})]
    folder = _write(tmp_path, refs)
    if pickled:
        (folder / "refs(unc).p").write_bytes(pickle.dumps(refs))
    readings = collect(open_refcoco(folder, split="train"))
    assert codes(readings) == {code: 1}
    sample = readings["9"].sample
    assert sample is not None
    assert [one.text for one in sample.expressions] == ["The Man!"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"bbox": [1, 2, 0, 5]}, "box_degenerate"),
        ({"bbox": [1, 2, 400, 5]}, "box_outside"),
        ({"bbox": [0.1, 0.1, 0.5, 0.5]}, "box_layout"),
        ({"bbox": [1, 2, math.inf, 5]}, "bad_number"),
        ({"bbox": "1 2 3 4"}, "bad_record"),
        ({"bbox": None, "segmentation": []}, "bad_record"),
        ({"segmentation": [[1, 2, 3, 4]]}, "mask_damaged"),
        ({"segmentation": [[1, 2, 3, 4, math.nan, 5]]}, "mask_damaged"),
        ({"segmentation": {"size": [2, 2], "counts": [4]}}, "mask_damaged"),
        ({"category_id": 77}, "unknown_category"),
        ({"iscrowd": "no"}, "bad_number"),
    ],
)
def test_a_ref_to_a_damaged_annotation_is_a_problem_too(
    tmp_path: Path, changed: dict[str, Any], code: str
) -> None:
    folder = _write(tmp_path, [_ref()], _annotation(**changed), _annotation(101))
    readings = collect(open_refcoco(folder, split="train"))
    assert codes(readings) == {code: 1, "unknown_annotation": 1}
    sample = readings["9"].sample
    assert sample is not None
    assert (len(sample.instances), sample.expressions, sample.exhaustive) == (1, (), False)


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ([], "unknown_image"),
        ([IMAGE, IMAGE], "duplicate_image"),
        ([{**IMAGE, "file_name": "../x.jpg"}], "path_escape"),
        ([{**IMAGE, "file_name": "C:\\x.jpg"}], "path_escape"),
        ([{**IMAGE, "width": 0}], "bad_number"),
        ([{**IMAGE, "height": None}], "bad_number"),
        ([{"id": 9}], "bad_record"),
    ],
)
def test_an_image_that_cannot_be_used_is_one_problem(
    tmp_path: Path, images: list[Any], code: str
) -> None:
    readings = collect(open_refcoco(_write(tmp_path, [_ref()], images=images), split="train"))
    assert codes(readings) == {code: 1}
    assert readings["9"].sample is None


def test_duplicate_annotations_keep_the_first(tmp_path: Path) -> None:
    twice = _annotation(bbox=[0, 0, 3, 3])
    readings = collect(
        open_refcoco(_write(tmp_path, [_ref()], _annotation(), twice), split="train")
    )
    assert codes(readings) == {"duplicate_annotation": 1}
    sample = readings["9"].sample
    assert sample is not None
    assert sample.instances[0].box == Box(1, 2, 11, 7)
    assert sample.expressions[0].instances == (0,)


class _Attack:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


def test_a_malicious_pickle_is_refused_before_reading(tmp_path: Path) -> None:
    folder = _write(tmp_path, [])
    trace = tmp_path / "trace"
    for protocol in range(6):
        data = pickle.dumps([_ref(), {"sentences": _Attack(trace)}], protocol=protocol)
        (folder / "refs(unc).p").write_bytes(data)
        with pytest.raises(AnnotationError, match="system, expected plain data"):
            next(iter(open_refcoco(folder, split="train").parts()))
    assert not trace.exists()


def test_a_pickle_that_holds_itself_is_a_problem(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    laugh: list[Any] = ["ha"]
    for _ in range(40):
        laugh = [laugh] * 10
    wide: list[Any] = ["ha"] * 100
    wide = [wide] * 1000
    refs = [_ref(1)]
    refs += [_ref(number, extra=one) for number, one in enumerate((loop, laugh, wide, {1}), 2)]
    folder = _write(tmp_path, [])
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs[:-1]))
    readings = collect(open_refcoco(folder, split="train"))
    assert codes(readings) == {"bad_record": 3}
    (folder / "refs(unc).p").write_bytes(pickle.dumps([_ref(1), _ref(2, extra=b"x"), 7, None]))
    assert codes(collect(open_refcoco(folder, split="train"))) == {"bad_record": 3}
    (folder / "refs(unc).p").write_bytes(pickle.dumps({"refs": refs[:1]}))
    with pytest.raises(AnnotationError, match="expected a list of refs, got dict"):
        collect(open_refcoco(folder, split="train"))
