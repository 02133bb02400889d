"""Writing and reading a format preserves everything that the format can hold."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from data.export.exported import export, scene_samples, scenes
from data.sources.reading import samples
from pycocotools.coco import COCO

from deixis.data.build.stored_images import image_bytes
from deixis.data.sources.base import Source
from deixis.data.sources.coco import open_coco
from deixis.data.sources.jsonl import open_jsonl
from deixis.data.sources.label_studio import open_label_studio
from deixis.data.sources.scenes import DrawnImage
from deixis.data.sources.yolo import open_yolo
from deixis.processing.images import read_image
from deixis.structures import Instance, Sample


def _same_instances(
    found: Sequence[Instance],
    true: Sequence[Instance],
    *,
    masks: bool = True,
    keypoints: bool = True,
) -> None:
    assert [one.category for one in found] == [one.category for one in true]
    assert [one.box for one in found] == [one.box for one in true]
    assert [one.mask for one in found] == [one.mask if masks else None for one in true]
    for one, other in zip(found, true, strict=True):
        if not keypoints or other.keypoints is None or not other.keypoints.num_labeled:
            assert one.keypoints is None
        else:
            assert one.keypoints is not None
            assert one.keypoints.names == other.keypoints.names
            assert np.array_equal(one.keypoints.visibility, other.keypoints.visibility)
            assert np.allclose(one.keypoints.positions, other.keypoints.positions, atol=1e-5)


def _same_picture(sample: Sample, index: int) -> None:
    assert isinstance(sample.image, Path)
    drawn = DrawnImage(0, index, "standard", "val")()
    assert np.array_equal(read_image(sample.image).array, drawn)
    assert image_bytes(sample.image)


def test_coco_gives_the_same_boxes_masks_keypoints_and_captions(tmp_path: Path) -> None:
    true = scene_samples(scenes())
    done = export(tmp_path, "coco", scenes(), copy_images=True)
    found = samples(open_coco(done.folder))
    assert len(found) == len(true) == done.report.written
    for number, sample in enumerate(true):
        other = found[str(number + 1)]
        _same_instances(other.instances, sample.instances)
        assert [one.text for one in other.captions] == [one.text for one in sample.captions]
        assert (other.size, other.split) == (sample.size, "val")
        _same_picture(other, number)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("form", "file"), [("coco", "annotations/instances_val.json"), ("fiftyone", "labels.json")]
)
def test_pycocotools_reads_the_same_pixels(tmp_path: Path, form: str, file: str) -> None:
    true = scene_samples(scenes())
    coco = COCO(str(export(tmp_path, form, scenes(), copy_images=True).folder / file))
    assert coco.getImgIds() == list(range(1, len(true) + 1))
    for number, sample in enumerate(true, start=1):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        assert len(annotations) == len(sample.instances)
        for annotation, instance in zip(annotations, sample.instances, strict=True):
            assert instance.mask is not None
            assert np.array_equal(coco.annToMask(annotation), instance.mask.array)
            assert annotation["area"] == instance.mask.area
            (category,) = coco.loadCats(annotation["category_id"])
            assert category["name"] == instance.category


def test_the_fiftyone_export_has_keypoints_and_pictures_in_data(tmp_path: Path) -> None:
    true = scene_samples(scenes())
    done = export(tmp_path, "fiftyone", scenes())
    source = open_coco(done.folder / "labels.json", images=done.folder / "data")
    found = samples(source)
    for number, sample in enumerate(true):
        _same_instances(found[str(number + 1)].instances, sample.instances, keypoints=False)
        _same_picture(found[str(number + 1)], number)
    assert done.report.not_carried["captions"] == sum(len(one.captions) for one in true)


def test_json_lines_give_everything_but_depth_and_visible_shares(tmp_path: Path) -> None:
    true = scene_samples(scenes())
    done = export(tmp_path, "jsonl", scenes(), copy_images=True)
    found = samples(open_jsonl(done.folder / "samples.jsonl"))
    assert set(done.report.not_carried) <= {"depth maps", "visible shares"}
    for number, sample in enumerate(true):
        other = found[f"{number:09d}"]
        _same_instances(other.instances, sample.instances)
        assert [one.attributes for one in other.instances] == [
            one.attributes for one in sample.instances
        ]
        assert other.relations == sample.relations
        assert other.expressions == sample.expressions
        assert other.questions == sample.questions
        assert other.captions == sample.captions
        assert other.absent_categories == sample.absent_categories
        assert (other.salient, other.exhaustive, other.split) == (sample.salient, True, "val")
        _same_picture(other, number)


@pytest.mark.parametrize("results", ["annotations", "predictions"])
def test_label_studio_gives_boxes_masks_keypoints_relations_and_captions(
    tmp_path: Path, results: str
) -> None:
    true = scene_samples(scenes())
    done = export(tmp_path, "label_studio", scenes(), copy_images=True, results=results)
    found = samples(open_label_studio(done.folder, results=results))
    for number, sample in enumerate(true):
        other = found[f"{number:09d}"]
        _same_instances(other.instances, sample.instances)
        assert other.relations == sample.relations
        assert [one.text for one in other.captions] == [one.text for one in sample.captions]
        _same_picture(other, number)
    other_kind = {"annotations": "predictions", "predictions": "annotations"}[results]
    empty = samples(open_label_studio(done.folder, results=other_kind))
    assert not any(sample.instances for sample in empty.values())


@pytest.mark.parametrize("rows", ["auto", "boxes", "polygons", "keypoints"])
def test_yolo_gives_the_contents_of_its_rows(tmp_path: Path, rows: str) -> None:
    true = scene_samples(scenes())
    done = export(tmp_path, "yolo", scenes(), rows=rows)
    found = samples(open_yolo(done.folder))
    masks = rows in {"auto", "polygons"}
    for number, sample in enumerate(true):
        other = found[f"images/val/{number:09d}.png"]
        _same_instances(
            other.instances, sample.instances, masks=masks, keypoints=rows == "keypoints"
        )
        assert other.split == "val"
        _same_picture(other, number)
    lost = done.report.not_carried
    assert ("masks" in lost) == (not masks)
    assert ("keypoints" in lost) == (rows != "keypoints")


def test_contents_that_a_format_cannot_hold_are_counted(tmp_path: Path) -> None:
    true = scene_samples(scenes(3))
    lost = export(tmp_path, "coco", scenes(3), copy_images=True).report.not_carried
    assert lost == {
        "attributes": sum(len(i.attributes) for one in true for i in one.instances),
        "visible shares": sum(i.visibility != 1 for one in true for i in one.instances),
        "relations": sum(len(one.relations) for one in true),
        "expressions": sum(len(one.expressions) for one in true),
        "phrases of captions": sum(len(c.phrases) for one in true for c in one.captions),
        "questions": sum(len(one.questions) for one in true),
        "absent classes": sum(len(one.absent_categories) for one in true),
        "salient instances": sum(one.salient is not None for one in true),
        "depth maps": 3,
    }


@pytest.mark.parametrize("form", ["coco", "fiftyone", "jsonl", "label_studio", "yolo"])
def test_the_same_source_gives_the_same_bytes(tmp_path: Path, form: str) -> None:
    folders = [
        export(tmp_path / name, form, scenes(4), copy_images=True).folder for name in ("a", "b")
    ]
    files = [
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in folders
    ]
    assert files[0] == files[1]
    assert len(files[0]) >= 5


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("form", ["coco", "jsonl", "label_studio", "yolo"])
def test_photographs_are_exported_and_read_back(
    shared_data: Path, tmp_path: Path, form: str
) -> None:
    source = open_coco(shared_data / "photos", split="val")
    done = export(tmp_path, form, source, copy_images=form != "yolo")
    readers: dict[str, Callable[[], Source]] = {
        "coco": lambda: open_coco(done.folder, split="val"),
        "jsonl": lambda: open_jsonl(done.folder / "samples.jsonl"),
        "label_studio": lambda: open_label_studio(done.folder),
        "yolo": lambda: open_yolo(done.folder),
    }
    true, found = samples(source), samples(readers[form]())
    assert len(found) == len(true) == done.report.written
    by_name = {Path(str(one.image)).name: one for one in found.values()}
    for sample in true.values():
        other = by_name[Path(str(sample.image)).name]
        kept = [one for one in sample.instances if form != "yolo" or not one.crowd]
        assert [one.category for one in other.instances] == [one.category for one in kept]
        for one, instance in zip(other.instances, kept, strict=True):
            assert one.mask == instance.mask
            if form != "yolo":
                assert np.allclose(one.box.as_array(), instance.box.as_array(), atol=1e-5)
            else:
                # the box is that of the polygon; the annotated box is rounded to hundredths
                assert np.allclose(one.box.as_array(), instance.box.as_array(), atol=1)
