"""GroundingDINO and ViTPose: the classes of transformers with random weights."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.decoders.plugs import save_detector, save_pose
from transformers import GroundingDinoProcessor

from deixis.errors import CheckpointError, PromptError
from deixis.geometry import COCO_KEYPOINTS, Box
from deixis.models.decoders import registry
from deixis.models.decoders.grounding import GroundingDetector, PoseEstimator
from deixis.models.decoders.keypoints import CROWDPOSE_KEYPOINTS


@pytest.fixture(scope="module")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    save_detector(folder)
    return folder


@pytest.fixture(scope="module")
def pose_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pose")
    save_pose(folder, 17)
    return folder


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_boxes_are_those_of_transformers_own_post_processing(detector_folder: Path) -> None:
    detector = GroundingDetector(detector_folder, threshold=0.2)
    found = detector.detect(image(), "A red Dog")
    model, tokenizer, processor = detector._open()
    whole: Any = GroundingDinoProcessor(processor, tokenizer)
    inputs = whole(images=image(), text="a red dog.", return_tensors="pt")
    with torch.no_grad():
        given = model(**inputs)
    expected = whole.post_process_grounded_object_detection(
        given, inputs["input_ids"], threshold=0.2, target_sizes=[(60, 90)]
    )[0]
    boxes = expected["boxes"].numpy()
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, 90)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, 60)
    order = expected["scores"].argsort(descending=True, stable=True).numpy()
    assert len(found) == len(order) > 2
    assert [one.score for one in found] == pytest.approx(expected["scores"].numpy()[order], 1e-5)
    placed = np.stack([one.unit.as_array() for one in found])
    assert placed == pytest.approx(boxes[order], abs=1e-3)


def test_an_answer_does_not_depend_on_case_blanks_or_earlier_questions(
    detector_folder: Path,
) -> None:
    detector = GroundingDetector(detector_folder, threshold=0.0)
    first = detector.detect(image(), "a red dog")
    detector.detect(image()[:, ::-1].copy(), "dogs")
    assert detector.detect(image(), " A  red dog. ") == first
    assert detector.detect(image(), "left") != first


@pytest.mark.parametrize("phrase", ["", " . ", "a dog. a cat"])
def test_inputs_other_than_one_phrase_are_refused(detector_folder: Path, phrase: str) -> None:
    with pytest.raises(PromptError, match="expected one phrase, without full stops"):
        GroundingDetector(detector_folder).detect(image(), phrase)


def test_a_threshold_leaves_boxes_out(detector_folder: Path) -> None:
    assert GroundingDetector(detector_folder, threshold=1.0).detect(image(), "a dog") == []


def test_bodies_are_those_of_transformers_own_post_processing(pose_folder: Path) -> None:
    estimator = PoseEstimator(pose_folder, threshold=-10.0)
    boxes = [Box(5, 5, 40, 55), Box(30, 2, 88, 58)]
    found = estimator.estimate(image(), boxes)
    model, processor = estimator._open()
    rows = [[list(box.to_xywh()) for box in boxes]]
    with torch.no_grad():
        given = model(**processor(images=image(), boxes=rows, return_tensors="pt"))
    expected = processor.post_process_pose_estimation(given, boxes=rows)[0]
    assert len(found) == 2
    for one, other in zip(found, expected, strict=True):
        assert one.unit.names == COCO_KEYPOINTS
        seen = one.unit.visibility > 0
        assert one.unit.positions[seen] == pytest.approx(other["keypoints"].numpy()[seen])
        assert 0 <= one.score <= 1
    assert estimator.estimate(image(), []) == []


def test_a_body_does_not_depend_on_the_other_boxes(pose_folder: Path) -> None:
    estimator = PoseEstimator(pose_folder, threshold=-10.0)
    boxes = [Box(5, 5, 40, 55), Box(30, 2, 88, 58)]
    together, alone = estimator.estimate(image(), boxes), estimator.estimate(image(), boxes[1:])
    assert together[1].unit.positions == pytest.approx(alone[0].unit.positions, abs=1e-2)


def test_joints_below_the_threshold_are_absent(pose_folder: Path) -> None:
    sure = PoseEstimator(pose_folder, threshold=1e9).estimate(image(), [Box(5, 5, 40, 55)])
    assert sure[0].unit.num_labeled == 0


def test_names_follow_from_the_number_of_joints(tmp_path: Path) -> None:
    save_pose(tmp_path / "14", 14)
    found = PoseEstimator(tmp_path / "14").estimate(image(), [Box(5, 5, 40, 55)])
    assert found[0].unit.names == CROWDPOSE_KEYPOINTS
    save_pose(tmp_path / "5", 5)
    with pytest.raises(CheckpointError, match="expected names of 5 keypoints, got 0"):
        PoseEstimator(tmp_path / "5").estimate(image(), [Box(5, 5, 40, 55)])
    named = PoseEstimator(tmp_path / "5", names=("a", "b", "c", "d", "e"))
    assert named.estimate(image(), [Box(5, 5, 40, 55)])[0].unit.names == ("a", "b", "c", "d", "e")


def test_folders_without_weights_or_with_damaged_ones_are_refused(
    tmp_path: Path, pose_folder: Path
) -> None:
    with pytest.raises(
        CheckpointError, match=r"detector .*: expected config\.json and safetensors"
    ):
        GroundingDetector(tmp_path).detect(image(), "a dog")
    with pytest.raises(CheckpointError, match=r"pose model .*: expected config\.json"):
        PoseEstimator(tmp_path).estimate(image(), [Box(1, 1, 9, 9)])
    for file in pose_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:64])
    with pytest.raises(CheckpointError, match="pose model"):
        PoseEstimator(tmp_path).estimate(image(), [Box(1, 1, 9, 9)])
    with pytest.raises(CheckpointError, match="detector"):
        GroundingDetector(tmp_path).detect(image(), "a dog")


def test_nothing_is_loaded_before_the_first_question(tmp_path: Path) -> None:
    GroundingDetector(tmp_path / "nowhere")
    PoseEstimator(tmp_path / "nowhere")
    for path in Path(registry.__file__).parent.glob("*.py"):
        imports = [
            getattr(node, "module", None) or node.names[0].name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert not [name for name in imports if name.startswith("transformers")], path
