"""u-LLaVA's location decoder: its layers, its losses against loops, its boxes."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from models.decoders.cases import location_truth
from models.decoders.small import LANGUAGE, features, references

from deixis.errors import GeometryError
from deixis.geometry import Box, ImageSize, Letterbox, generalized_box_iou
from deixis.models.decoders.location import (
    LocationConfig,
    LocationDecoder,
    LocationPredictions,
    LocationTruth,
)


def test_layers_are_those_of_the_paper() -> None:
    decoder = LocationDecoder(LocationConfig(), 40)
    shapes = [tuple(m.weight.shape) for m in decoder.modules() if isinstance(m, torch.nn.Linear)]
    assert shapes[:5] == [(40, 40), (256, 40), (256, 256), (128, 256), (4, 128)]


def test_a_box_depends_on_its_own_state_alone() -> None:
    decoder = LocationDecoder(LocationConfig(width=16), LANGUAGE)
    asked = references([3])
    alone = replace(
        asked, states=asked.states[:, 1:2], filled=asked.filled[:, 1:2], turns=asked.turns[:, 1:2]
    )
    both = decoder(asked, features(1)).corners[:, 1:2], decoder(alone).corners
    assert torch.allclose(*both, atol=1e-6)


@pytest.mark.parametrize("loss", ["paper", "code"])
def test_losses_equal_a_loop(loss: Literal["paper", "code"]) -> None:
    decoder = LocationDecoder(LocationConfig(width=16, loss=loss), LANGUAGE)
    truth = location_truth(4)
    corners = truth.corners + torch.randn(4, 4, generator=torch.Generator().manual_seed(0)) * 0.1
    # the corners of the last box are swapped
    corners[3] = truth.corners[3][[2, 3, 0, 1]]
    decoded = LocationPredictions(corners[None], torch.zeros(1, 4))
    parts = decoder.losses(decoded, truth, torch.ones(1, 4, dtype=torch.bool)).parts
    distance = overlap = 0.0
    for index in range(4):
        weight = float(truth.weights[index])
        distance += weight * float((corners[index] - truth.corners[index]).abs().sum())
        if index == 3:
            # no area and no overlap: the hull is the target
            target = truth.corners[3]
            area = float((target[2:] - target[:2]).prod())
            giou = 0 - (area - area) / area
            overlap += weight * (1 - giou) if loss == "paper" else 0.0
            continue
        pair = (corners[index].double().numpy()[None], truth.corners[index].double().numpy()[None])
        overlap += weight * (1 - float(generalized_box_iou(*pair)[0, 0]))
    total = float(truth.weights.sum())
    # the public code divides the mean of each image again, by the number of all boxes
    total *= 1 if loss == "paper" else 4
    assert parts["l1"].item() == pytest.approx(distance / total, rel=1e-5)
    assert parts["giou"].item() == pytest.approx(overlap / total, rel=1e-5)


def test_the_loss_of_the_public_code_is_the_sum_of_images_means_over_all_boxes() -> None:
    decoder = LocationDecoder(LocationConfig(width=16, loss="code"), LANGUAGE)
    truth = replace(location_truth(4), weights=torch.ones(4))
    filled = torch.tensor([[True, False, False], [True, True, True]])
    away = torch.tensor([0.1, 0.2, 0.0, 0.3])
    corners = torch.zeros(2, 3, 4)
    corners[filled] = truth.corners + away[:, None]
    decoded = LocationPredictions(corners, torch.zeros(2, 3))
    found = decoder.losses(decoded, truth, filled).parts["l1"].item()
    # all four coordinates have the same error; the first image has one box, the second three
    means = 4 * 0.1, 4 * (0.2 + 0.0 + 0.3) / 3
    assert found == pytest.approx(sum(means) / 4, rel=1e-5)
    # an unknown box does not count
    some = replace(truth, known=torch.tensor([False, True, True, True]))
    found = decoder.losses(decoded, some, filled).parts["l1"].item()
    assert found == pytest.approx(means[1] / 3, rel=1e-5)


@pytest.mark.parametrize("size", [(480, 640), (99, 20)])
def test_boxes_are_the_letterboxs_and_corners_are_put_in_order(size: tuple[int, int]) -> None:
    extent = ImageSize(*size)
    box = Box(3.0, 5.0, 17.5, 19.0)
    canvas = torch.from_numpy(Letterbox(extent, 64).apply_boxes(box.as_array()[None])[0] / 64)
    decoder = LocationDecoder(LocationConfig(width=16), LANGUAGE)
    for order in ([0, 1, 2, 3], [2, 3, 0, 1], [0, 3, 2, 1]):
        decoded = LocationPredictions(canvas.float()[order].expand(1, 2, 4), torch.zeros(1, 2))
        placed = decoder.to_unit(decoded, 0, 1, Letterbox(extent, 64))
        assert placed.as_array() == pytest.approx(box.as_array(), abs=1e-3)


def test_a_box_off_the_image_or_not_finite_is_refused() -> None:
    decoder = LocationDecoder(LocationConfig(width=16), LANGUAGE)
    corners = torch.tensor([[[1.5, 1.5, 2.0, 2.0], [torch.nan, 0, 1, 1]]])
    decoded = LocationPredictions(corners, torch.zeros(1, 2))
    for position in range(2):
        with pytest.raises(GeometryError):
            decoder.to_unit(decoded, 0, position, Letterbox(ImageSize(10, 10), 64))


def test_boxes_are_learned() -> None:
    torch.manual_seed(0)
    decoder = LocationDecoder(LocationConfig(width=16), LANGUAGE)
    asked = references([2, 1])
    truth: LocationTruth = location_truth(3)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    ious = []
    for _ in range(80):
        scored = decoder.losses(decoder(asked), truth, asked.filled)
        optimizer.zero_grad()
        scored.loss.backward()
        optimizer.step()
        ious.append(scored.measures["location_iou"].item())
    assert ious[-1] > 0.6
