"""Keypoints: OKS against pycocotools, losses against loops, positions against the letterbox."""

import copy
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from models.decoders.cases import keypoint_truth
from models.decoders.small import LANGUAGE, SHAPE, features, generator, references, some_boxes
from pycocotools.cocoeval import COCOeval, Params
from torch import Tensor

from deixis.errors import GeometryError
from deixis.geometry import ImageSize, Letterbox, mirrored_order
from deixis.models.decoders.keypoints import (
    CROWDPOSE_KEYPOINTS,
    SKELETONS,
    KeypointConfig,
    KeypointDecoder,
    KeypointPredictions,
    KeypointTruth,
    object_keypoint_similarity,
)

Loss = Literal["paper", "code"]


def coco_similarity(
    predicted: Tensor, target: Tensor, visibility: Tensor, area: float, sigmas: tuple[float, ...]
) -> float:
    """OKS of one pair by pycocotools."""
    scorer: Any = COCOeval(iouType="keypoints")
    scorer.params.kpt_oks_sigmas = np.array(sigmas)
    truth = torch.cat([target, visibility[:, None].float()], dim=1).flatten().double().numpy()
    found = torch.cat([predicted, torch.ones(len(predicted), 1)], dim=1).flatten().double().numpy()
    scorer._gts[1, 1] = [
        {"keypoints": truth, "area": area, "bbox": [0, 0, 1, 1], "num_keypoints": 1}
    ]
    scorer._dts[1, 1] = [{"keypoints": found, "score": 1.0}]
    return float(scorer.computeOks(1, 1)[0, 0])


@pytest.mark.parametrize("skeleton", ["coco", "crowdpose"])
def test_similarity_equals_pycocotools(skeleton: str) -> None:
    sigmas = SKELETONS[skeleton].sigmas
    joints = len(sigmas)
    dice = generator(0)
    target = torch.rand(20, joints, 2, generator=dice) * 300
    predicted = target + torch.randn(20, joints, 2, generator=dice) * 10
    visibility = torch.randint(0, 3, (20, joints), generator=dice)
    visibility[:, 0] = 2
    areas = torch.rand(20, generator=dice) * 20_000 + 10
    ours = object_keypoint_similarity(
        predicted, target, visibility > 0, areas, torch.tensor(sigmas)
    )
    # positions on a canvas of side 512 have the same similarity
    shares = object_keypoint_similarity(
        predicted / 512, target / 512, visibility > 0, areas / 512**2, torch.tensor(sigmas)
    )
    for index in range(20):
        expected = coco_similarity(
            predicted[index], target[index], visibility[index], float(areas[index]), sigmas
        )
        assert ours[index].item() == pytest.approx(expected, abs=1e-5)
        assert shares[index].item() == pytest.approx(expected, abs=1e-5)


def test_sigmas_are_those_of_coco_and_crowdpose() -> None:
    assert SKELETONS["coco"].sigmas == pytest.approx(Params(iouType="keypoints").kpt_oks_sigmas)
    by_name = dict(zip(SKELETONS["coco"].names, SKELETONS["coco"].sigmas, strict=True))
    crowd = dict(zip(CROWDPOSE_KEYPOINTS, SKELETONS["crowdpose"].sigmas, strict=True))
    assert len(crowd) == 14
    assert all(crowd[name] == by_name[name] for name in crowd if name in by_name)
    assert len(mirrored_order(CROWDPOSE_KEYPOINTS)) == 14


def test_a_body_without_labelled_joints_or_without_area_has_finite_gradients() -> None:
    predicted = torch.rand(3, 17, 2, generator=generator(1)).requires_grad_()
    labelled = torch.ones(3, 17, dtype=torch.bool)
    labelled[0] = False
    sigmas = torch.tensor(SKELETONS["coco"].sigmas)
    areas = torch.tensor([0.1, 0.0, 1e-12])
    found = object_keypoint_similarity(predicted, torch.zeros(3, 17, 2), labelled, areas, sigmas)
    found.sum().backward()
    assert found[0].item() == 0
    assert predicted.grad is not None
    assert bool(torch.isfinite(predicted.grad).all())


def predictions(joints: int, levels: int, *, steps: int = 2) -> KeypointPredictions:
    dice = generator(5)
    return KeypointPredictions(
        tuple(torch.rand(2, 2, joints, 2, generator=dice) for _ in range(steps)),
        torch.randn(2, 2, joints, levels, generator=dice),
        (some_boxes(4, 8).reshape(2, 2, 4), some_boxes(4, 9).reshape(2, 2, 4)),
        torch.randn(2, 2, generator=dice),
        (),
    )


@pytest.mark.parametrize("loss", ["paper", "code"])
@pytest.mark.parametrize("levels", [2, 3])
def test_losses_equal_a_loop(loss: Loss, levels: Literal[2, 3]) -> None:
    config = KeypointConfig(**{**SHAPE, "anchored": False}, loss=loss, levels=levels)
    decoder = KeypointDecoder(config, LANGUAGE)
    filled = torch.tensor([[True, True], [True, False]])
    truth = keypoint_truth(3, 17)
    visibility = truth.visibility.clone()
    visibility[2] = 0
    truth = replace(truth, visibility=visibility)
    decoded = predictions(17, levels)
    parts = decoder.losses(decoded, truth, filled).parts
    sums = dict.fromkeys(("visibility", "quality", "similarity"), 0.0)
    distances = [0.0, 0.0]
    similar = [0.0, 0.0]
    labelled_weight = 0.0
    for index, (row, place) in enumerate([(0, 0), (0, 1), (1, 0)]):
        weight = float(truth.weights[index])
        seen = [k for k in range(17) if int(truth.visibility[index, k]) > 0]
        labelled_weight += weight if seen else 0
        for number, step in enumerate(decoded.steps):
            joints, target = step[row, place], truth.positions[index]
            apart = sum(float((joints[k] - target[k]).abs().sum()) for k in seen)
            if loss == "code":
                distances[number] += weight * apart
                far = [float(((joints[k] - target[k]) ** 2).sum() ** 0.5) for k in range(17)]
                similar[number] += weight * sum(far) / 17
            elif seen:
                distances[number] += weight * apart / len(seen)
                alike = coco_similarity(
                    joints * 1000,
                    target * 1000,
                    truth.visibility[index],
                    float(truth.areas[index]) * 1e6,
                    SKELETONS["coco"].sigmas,
                )
                similar[number] += weight * (1 - alike)
        focal = 0.0
        for k in range(17):
            level = min(int(truth.visibility[index, k]), levels - 1)
            for each in range(levels):
                p = float(decoded.visibility[row, place, k, each].sigmoid())
                chance, balance = (p, 0.25) if each == level else (1 - p, 0.75)
                focal -= balance * (1 - chance) ** 2 * np.log(chance) / levels
        sums["visibility"] += weight * (focal if loss == "code" else focal / 17)
    total = float(truth.weights.sum())
    below = labelled_weight if loss == "paper" else total
    expected = (distances[1] + 0.5 * distances[0]) / total
    assert parts["l1"].item() == pytest.approx(expected, rel=1e-4)
    expected = (similar[1] + 0.5 * similar[0]) / below
    assert parts["similarity"].item() == pytest.approx(expected, rel=1e-4)
    assert parts["visibility"].item() == pytest.approx(sums["visibility"] / total, rel=1e-4)


def perfect(truth: KeypointTruth, levels: int = 3) -> KeypointPredictions:
    wanted = torch.nn.functional.one_hot(truth.visibility, levels).float() * 40 - 20
    boxes = truth.boxes[None]
    quality = torch.full((1, len(boxes[0])), 20.0)
    return KeypointPredictions((truth.positions[None],), wanted[None], (boxes, boxes), quality, ())


def test_right_bodies_cost_nothing_and_match_themselves() -> None:
    decoder = KeypointDecoder(KeypointConfig(**{**SHAPE, "anchored": False}), LANGUAGE)
    truth, filled = keypoint_truth(3, 17), torch.ones(1, 3, dtype=torch.bool)
    scored = decoder.losses(perfect(truth), truth, filled)
    assert scored.loss.item() < 1e-4
    assert scored.measures["keypoint_oks"].item() == pytest.approx(1)
    cost = decoder.costs(perfect(truth), truth, filled, torch.tensor([[2, 0, 1]]))[0]
    assert cost.diagonal().abs().max() < 1e-4
    assert bool((cost.argmin(1) == torch.arange(3)).all())
    assert (cost + 10 * torch.eye(3)).min() > 0.1


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (30, 30), (1, 99)])
def test_places_are_the_letterboxs(size: tuple[int, int]) -> None:
    extent = ImageSize(*size)
    letterbox = Letterbox(extent, 128)
    decoder = KeypointDecoder(KeypointConfig(**{**SHAPE, "anchored": False}), LANGUAGE)
    source = np.random.default_rng(0).random((17, 2)) * [extent.width, extent.height]
    canvas = torch.from_numpy(letterbox.apply_points(source) / 128).float()
    decoded = replace(
        predictions(17, 3), steps=(canvas.expand(2, 2, 17, 2),), visibility=torch.zeros(2, 2, 17, 3)
    )
    decoded.visibility[..., 1] = 1
    body = decoder.to_unit(decoded, 1, 0, Letterbox(extent, 64))
    seen = body.visibility > 0
    assert seen.mean() > 0.9
    assert set(body.visibility[seen].tolist()) == {1}
    assert body.positions[seen] == pytest.approx(source[seen], abs=2e-3)


def test_joints_outside_the_image_are_absent_and_infinite_ones_are_refused() -> None:
    config = KeypointConfig(**{**SHAPE, "anchored": False}, levels=2, skeleton="crowdpose")
    decoder = KeypointDecoder(config, LANGUAGE)
    decoded = predictions(14, 2)
    decoded.visibility[..., 1] = 9
    positions = torch.full((2, 2, 14, 2), 0.5)
    positions[0, 0, 3] = torch.tensor([0.5, 0.05])
    body = decoder.to_unit(
        replace(decoded, steps=(positions,)), 0, 0, Letterbox(ImageSize(50, 100), 64)
    )
    assert body.names == CROWDPOSE_KEYPOINTS
    assert body.visibility.tolist() == [2, 2, 2, 0, *[2] * 10]
    assert body.positions[0].tolist() == [50, 25]
    positions[0, 0, 5] = torch.nan
    with pytest.raises(GeometryError, match="right_wrist"):
        decoder.to_unit(
            replace(decoded, steps=(positions,)), 0, 0, Letterbox(ImageSize(50, 100), 64)
        )


def test_two_bodies_are_learned() -> None:
    torch.manual_seed(0)
    config = KeypointConfig(**SHAPE, joint_layers=1)
    decoder = KeypointDecoder(config, LANGUAGE)
    asked, given, truth = references([2]), features(1), keypoint_truth(2, 17)
    # joints inside their boxes
    low = truth.boxes[:, None, :2] - truth.boxes[:, None, 2:] / 2
    truth = replace(
        truth,
        positions=low + truth.positions * truth.boxes[:, None, 2:],
        areas=truth.boxes[:, 2:].prod(-1),
    )
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        scored = decoder.losses(decoder(asked, given), truth, asked.filled)
        optimizer.zero_grad()
        scored.loss.backward()
        optimizer.step()
        losses.append(scored.loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_presets_of_refvlm_differ_in_the_layers_and_the_loss() -> None:
    paper, code = KeypointConfig.refvlm(), KeypointConfig.refvlm("code")
    assert (paper.loss, code.loss) == ("paper", "code")
    assert (paper.design, code.design) == ("deixis", "detr")
    assert replace(code, loss="paper", design="deixis", dropout=0.0) == paper
    assert (paper.width, paper.layers, paper.heads, paper.hidden) == (256, 6, 8, 2048)


def test_a_new_decoder_returns_the_boxes_of_proposals() -> None:
    torch.manual_seed(0)
    decoder = KeypointDecoder(KeypointConfig(**SHAPE), LANGUAGE)
    asked, given = references([2, 1]), features(2, proposals=True)
    torch.nn.init.zeros_(decoder.box.last.weight)
    torch.nn.init.zeros_(decoder.box.last.bias)
    decoded = decoder(asked, given)
    assert given.proposals is not None
    boxes = given.proposals.at(decoded.anchors[-1].elected)[0]
    assert torch.allclose(decoded.boxes[0], boxes)
    assert copy.copy(decoded).positions.shape == (2, 2, 17, 2)
