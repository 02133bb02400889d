import contextlib
import io
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from deixis.data.scenes import Scene, draw_scene
from deixis.data.scenes.export import FORMATS, write_scenes
from deixis.data.scenes.export.depth import DEPTH_SCALE
from deixis.data.scenes.scene_sample import scene_sample
from deixis.errors import RecipeError, StorageError
from deixis.structures import Sample

COUNT = 3
Written = Callable[[str], Path]


@cache
def _scene(index: int) -> Scene:
    return draw_scene(3, index, level="hard", split="val")


@cache
def _sample(index: int) -> Sample:
    return scene_sample(_scene(index))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    done: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in done:
            done[name] = tmp_path_factory.mktemp(name)
            write_scenes(done[name], split="val", count=COUNT, format=name, level="hard", seed=3)
        return done[name]

    return write


def _coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


# Under NumPy 2, pycocotools warns about its own arrays.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_opens_in_pycocotools_with_the_same_masks(written: Written) -> None:
    root = written("coco")
    coco = _coco(root / "annotations" / "instances_val.json")
    for index in range(COUNT):
        scene = _scene(index)
        (record,) = coco.loadImgs([index + 1])
        with Image.open(root / "val" / record["file_name"]) as image:
            assert np.array_equal(np.asarray(image), scene.image)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[index + 1]))
        assert len(annotations) == len(scene.things)
        for position, annotation in enumerate(annotations):
            mask = coco.annToMask(annotation).astype(bool)
            assert np.array_equal(mask, scene.mask(position))
            assert annotation["area"] == mask.sum()
            assert scene.things[position].name == coco.cats[annotation["category_id"]]["name"]
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == scene.things[position].box


def test_coco_keypoints_and_captions_open_too(written: Written) -> None:
    root = written("coco")
    people = _coco(root / "annotations" / "person_keypoints_val.json")
    assert people.anns
    for annotation in people.anns.values():
        assert len(annotation["keypoints"]) == 51
        shown = sum(value > 0 for value in annotation["keypoints"][2::3])
        assert annotation["num_keypoints"] == shown
    captions = _coco(root / "annotations" / "captions_val.json")
    assert {entry["image_id"] for entry in captions.anns.values()} == set(range(1, COUNT + 1))


def test_refcoco_refers_to_its_instances(written: Written) -> None:
    root = written("refcoco")
    coco = _coco(root / "instances_val.json")
    for name in ("location", "appearance", "long"):
        references = json.loads((root / f"refs_{name}_val.json").read_text())
        sentences = [sentence for ref in references for sentence in ref["sentences"]]
        assert [sentence["sent_id"] for sentence in sentences] == list(range(len(sentences)))
        for ref in references:
            annotation = coco.anns[ref["ann_id"]]
            assert annotation["image_id"] == ref["image_id"]
            assert annotation["category_id"] == ref["category_id"]
            sample = _sample(ref["image_id"] - 1)
            target = ref["ann_id"] - coco.getAnnIds(imgIds=[ref["image_id"]])[0]
            meant = {e.text: e.instances for e in sample.expressions}
            assert all(meant[sentence["raw"]] == (target,) for sentence in ref["sentences"])


@pytest.mark.parametrize("split", ["testA", "testB"])
def test_refcoco_test_splits_have_their_own_targets(split: str, tmp_path: Path) -> None:
    write_scenes(tmp_path, split=split, count=8, format="refcoco")
    coco = _coco(tmp_path / f"instances_{split}.json")
    references = json.loads((tmp_path / f"refs_location_{split}.json").read_text())
    assert references
    for ref in references:
        assert (coco.cats[ref["category_id"]]["name"] == "person") == (split == "testA")


def test_visual_genome_files_agree(written: Written) -> None:
    root = written("visual_genome")
    files = {
        name: json.loads((root / f"{name}.json").read_text())
        for name in (
            *("image_data", "objects", "attributes", "relationships"),
            *("region_descriptions", "question_answers"),
        )
    }
    assert all(len(content) == COUNT for content in files.values())
    numbers = [entry["object_id"] for image in files["objects"] for entry in image["objects"]]
    assert len(numbers) == len(set(numbers))
    for image in files["relationships"]:
        for relation in image["relationships"]:
            assert {relation["subject"]["object_id"], relation["object"]["object_id"]} <= {*numbers}
    for data, image in zip(files["image_data"], files["region_descriptions"], strict=True):
        assert image["regions"]
        for region in image["regions"]:
            assert region["x"] + region["width"] <= data["width"]
            assert region["y"] + region["height"] <= data["height"]


def test_flickr30k_sentences_name_chains_with_boxes(written: Written) -> None:
    root = written("flickr30k")
    for index in range(COUNT):
        sample = _sample(index)
        tree = ET.parse(root / "Annotations" / f"{index + 1}.xml")  # noqa: S314 - our own file
        boxes: dict[str, list[tuple[int, ...]]] = {}
        for thing in tree.getroot().iter("object"):
            corners = thing.find("bndbox")
            assert corners is not None
            values = tuple(int(corners.findtext(t, "")) for t in ("xmin", "ymin", "xmax", "ymax"))
            boxes.setdefault(thing.findtext("name", ""), []).append(values)
        lines = (root / "Sentences" / f"{index + 1}.txt").read_text().splitlines()
        for line, caption in zip(lines, sample.captions, strict=True):
            assert re.sub(r"\[/EN#\d+/\w+ ([^]]+)\]", r"\1", line) == caption.text
            chains = re.findall(r"\[/EN#(\d+)/\w+ ([^]]+)\]", line)
            for (chain, words), phrase in zip(chains, caption.phrases, strict=True):
                assert words == phrase.text
                assert boxes[chain] == [(b.x1 + 1, b.y1 + 1, b.x2, b.y2) for b in phrase.boxes], (
                    "counted from 1, the last pixel included"
                )


def test_vqav2_has_an_annotation_for_each_question(written: Written) -> None:
    root = written("vqav2")
    asked = json.loads((root / "v2_OpenEnded_scenes_val_questions.json").read_text())["questions"]
    answered = json.loads((root / "v2_scenes_val_annotations.json").read_text())["annotations"]
    assert [entry["question_id"] for entry in asked] == [entry["question_id"] for entry in answered]
    for entry in answered:
        assert len(entry["answers"]) == 10
        if entry["answer_type"] == "number":
            assert entry["multiple_choice_answer"].isdigit()
        if entry["answer_type"] == "yes/no":
            assert entry["multiple_choice_answer"] in {"yes", "no"}


@pytest.mark.parametrize("setting", ["random", "popular", "adversarial"])
def test_pope_has_equal_numbers_of_yes_and_no(setting: str, written: Written) -> None:
    path = written("pope") / f"scenes_pope_{setting}_val.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    labels = [line["label"] for line in lines]
    assert labels.count("yes") == labels.count("no") > COUNT
    for line in lines:
        index = int(re.findall(r"\d+", line["image"])[0]) - 1
        names = {t.name for t in _scene(index).things}
        name = line["text"].removesuffix(" in the image?").rpartition(" ")[2]
        assert (name in names) == (line["label"] == "yes")


def test_depth_comes_back_at_its_scale(written: Written) -> None:
    root = written("depth")
    index = json.loads((root / "val.json").read_text())
    assert index["scale"] == DEPTH_SCALE
    for position, pair in enumerate(index["pairs"]):
        scene = _scene(position)
        with Image.open(root / pair["depth"]) as image:
            values = np.asarray(image).astype(np.float64) / DEPTH_SCALE
        assert np.abs(values - scene.depth).max() <= 0.5 / DEPTH_SCALE


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_an_export_is_deterministic(name: str, written: Written, tmp_path: Path) -> None:
    first = written(name)
    paths = write_scenes(tmp_path, split="val", count=COUNT, format=name, level="hard", seed=3)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert sorted(path.relative_to(tmp_path) for path in paths) == files
    for path in files:
        assert (first / path).read_bytes() == (tmp_path / path).read_bytes()


def test_progress_counts_scenes(tmp_path: Path) -> None:
    seen: list[int] = []
    write_scenes(tmp_path, split="train", count=3, format="pope", on_scene=seen.append)
    assert seen == [1, 2, 3]


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown format 'voc'"):
        write_scenes(tmp_path, split="val", count=1, format="voc")
    with pytest.raises(RecipeError, match="0 scenes"):
        write_scenes(tmp_path, split="val", count=0, format="coco")


def test_a_failed_write_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "val").write_text("in the way")
    with pytest.raises(StorageError, match=r"val: cannot write: file exists"):
        write_scenes(tmp_path, split="val", count=1, format="coco")
    (tmp_path / "taken" / "depth.json").mkdir(parents=True)
    (tmp_path / "taken" / "val.json" / "x").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"val\.json: cannot write"):
        write_scenes(tmp_path / "taken", split="val", count=1, format="depth")
    assert not list(tmp_path.rglob("*.tmp"))
