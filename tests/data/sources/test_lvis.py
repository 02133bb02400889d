from pathlib import Path
from typing import Any

import pytest
from data.sources.reading import codes, collect, samples, write_json

from deixis.data.sources.lvis import open_lvis, plain_name
from deixis.errors import AnnotationError
from deixis.geometry import Box
from deixis.structures import Sample

CATEGORIES = {
    1: "aerosol_can",
    2: "bow_(weapon)",
    3: "bow_(decorative_ribbons)",
    4: "dog",
    5: "cat",
}


def _write(root: Path, *categories: int, image: dict[str, Any] | None = None) -> Path:
    record = {
        "id": 9,
        "coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg",
        "width": 40,
        "height": 20,
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        **(image or {}),
    }
    annotations = [
        {
            "id": number,
            "image_id": 9,
            "category_id": category,
            "bbox": [1, 2, 10, 5],
            "segmentation": [[1, 2, 11, 2, 11, 7, 1, 7]],
            "area": 50,
        }
        for number, category in enumerate(categories, start=1)
    ]
    content = {
        "images": [{name: value for name, value in record.items() if value is not ...}],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in CATEGORIES.items()],
    }
    return write_json(root / "lvis_v1_train.json", content)


def _sample(path: Path) -> Sample:
    (sample,) = samples(open_lvis(path)).values()
    return sample


def test_names_are_those_that_people_say(tmp_path: Path) -> None:
    sample = _sample(_write(tmp_path, 1, 2))
    assert [one.category for one in sample.instances] == ["aerosol can", "bow"]
    assert sample.instances[0].box == Box(1, 2, 11, 7)
    assert sample.instances[0].mask is not None
    assert plain_name("(odd)") == "(odd)"


@pytest.mark.parametrize(
    ("present", "absent", "partial", "names", "complete"),
    [
        ([4], [], [], (), True),
        ([4], [5, 1], [], ("aerosol can", "cat"), True),
        ([4], [5], [4], ("cat",), False),
        ([4], [5], [1], ("cat",), True),
        # of two classes with one name, one is not known to be absent
        ([4], [2], [], (), True),
        ([4], [2, 3], [], ("bow",), True),
        ([2], [], [], (), False),
        ([2], [3], [], (), True),
        ([2], [3], [2], (), False),
        # present after all: the file contradicts itself, and the thing that is seen wins
        ([4], [4], [], (), True),
        ([], [4], [], ("dog",), True),
    ],
)
def test_only_checked_classes_are_exhaustive_or_absent(
    tmp_path: Path,
    present: list[int],
    absent: list[int],
    partial: list[int],
    names: tuple[str, ...],
    *,
    complete: bool,
) -> None:
    image = {"neg_category_ids": absent, "not_exhaustive_category_ids": partial}
    sample = _sample(_write(tmp_path, *present, image=image))
    assert sample.absent_categories == names
    # classes of which nothing is said may be there
    assert not sample.exhaustive
    found = {one.category for one in sample.instances}
    assert all(sample.covers(name) == complete for name in found)


def test_the_image_is_named_by_its_address_or_its_file_name(tmp_path: Path) -> None:
    assert _sample(_write(tmp_path)).image == tmp_path / "train2017" / "000000000009.jpg"
    image = {"file_name": "9.jpg", "coco_url": ...}
    assert _sample(_write(tmp_path, image=image)).image == tmp_path / "9.jpg"


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ({"coco_url": ...}, "bad_record"),
        ({"coco_url": 5}, "bad_record"),
        ({"coco_url": "http://x/../9.jpg"}, "path_escape"),
        ({"neg_category_ids": [404]}, "unknown_category"),
        ({"neg_category_ids": "1"}, "bad_record"),
        ({"not_exhaustive_category_ids": [1.5]}, "bad_number"),
        ({"width": -1}, "bad_number"),
        ({"id": 8}, "unknown_image"),
    ],
)
def test_an_image_that_cannot_be_used_is_a_problem(
    tmp_path: Path, image: dict[str, Any], code: str
) -> None:
    readings = collect(open_lvis(_write(tmp_path, 4, image=image)))
    assert codes(readings) == {code: 1}
    assert readings["9"].sample is None


def test_an_annotation_that_cannot_be_used_is_a_problem(tmp_path: Path) -> None:
    readings = collect(open_lvis(_write(tmp_path, 4, 404)))
    assert codes(readings) == {"unknown_category": 1}
    assert readings["9"].sample is not None
    assert readings["9"].sample.left_out.unknown


def test_files_are_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected one file such as lvis_v1_val"):
        open_lvis(tmp_path)
    path = _write(tmp_path / "annotations")
    source = open_lvis(tmp_path, images=tmp_path / "coco")
    assert (source.split, source.files) == ("train", (str(path),))
    assert source.images == tmp_path / "coco"
    path.with_name("lvis_v1_val.json").write_bytes(path.read_bytes())
    with pytest.raises(AnnotationError, match="say which"):
        open_lvis(tmp_path)
    assert open_lvis(tmp_path, split="val").split == "val"
