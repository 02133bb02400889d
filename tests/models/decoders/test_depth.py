"""Depth: losses against loops in NumPy, ranges, validity, and maps at source size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from closeness import assert_same_outputs
from models.decoders.cases import depth_truth
from models.decoders.small import (
    FINE,
    LANGUAGE,
    PIXELS,
    SHAPE,
    features,
    generator,
    references,
)
from torch import Tensor

from deixis.errors import GeometryError, ModelError
from deixis.geometry import DepthMap, ImageSize, Letterbox
from deixis.models.decoders.depth import (
    DepthConfig,
    DepthDecoder,
    DepthTruth,
    affine_invariant_loss,
    aligned,
    depth_at_source,
    scale_invariant_log_loss,
    share_within,
)


def some_depths(count: int, side: int, seed: int) -> Tensor:
    return torch.rand(count, side, side, generator=generator(seed)) * 9 + 0.5


def some_valid(count: int, side: int) -> Tensor:
    return torch.rand(count, side, side, generator=generator(11)) > 0.4


@pytest.mark.parametrize("variance", [0.0, 0.5, 0.85, 1.0])
def test_silog_equals_a_loop(variance: float) -> None:
    predicted, target = some_depths(3, 7, 0).flatten(1), some_depths(3, 7, 1).flatten(1)
    valid = some_valid(3, 7).flatten(1)
    found = scale_invariant_log_loss(predicted.log(), target, valid, variance=variance)
    for index in range(3):
        errors = [
            np.log(float(p)) - np.log(float(t))
            for p, t, v in zip(predicted[index], target[index], valid[index], strict=True)
            if v
        ]
        expected = np.sqrt(np.mean(np.square(errors)) - variance * np.mean(errors) ** 2)
        assert found[index].item() == pytest.approx(expected, rel=1e-5)


def test_silog_of_full_variance_is_scale_invariant() -> None:
    predicted, target = some_depths(2, 6, 2).flatten(1), some_depths(2, 6, 3).flatten(1)
    valid = torch.ones_like(target, dtype=torch.bool)
    once = scale_invariant_log_loss(predicted.log(), target, valid, variance=1.0)
    thrice = scale_invariant_log_loss((3 * predicted).log(), target, valid, variance=1.0)
    assert torch.allclose(once, thrice, atol=1e-6)


def test_silog_has_finite_gradients_for_exact_and_for_unknown_depth() -> None:
    target = some_depths(3, 4, 4).flatten(1)
    target[1] = 0
    valid = target > 0
    logs = target.clamp(min=0.1).log().requires_grad_()
    loss = scale_invariant_log_loss(logs, target, valid)
    loss.sum().backward()
    assert loss.abs().max() < 1e-6
    assert logs.grad is not None
    assert bool(torch.isfinite(logs.grad).all())


def loop_of_affine(predicted: Tensor, target: Tensor, valid: Tensor, gradient: float) -> float:
    def standard(values: Tensor) -> np.ndarray:
        known = np.sort(values[valid].numpy().astype(np.float64))
        middle = known[(len(known) - 1) // 2]
        moved: np.ndarray = (values.numpy() - middle) / np.abs(known - middle).mean()
        return moved

    difference, there = standard(predicted) - standard(target), valid.numpy()
    loss = np.abs(difference[there]).sum() / (2 * there.sum())
    for step in (1, 2, 4, 8):
        some, known = difference[::step, ::step], there[::step, ::step]
        total = 0.0
        for row in range(some.shape[0]):
            for column in range(some.shape[1]):
                for down, right in ((0, 1), (1, 0)):
                    other = (row + down, column + right)
                    if other[0] < some.shape[0] and other[1] < some.shape[1]:
                        both = known[row, column] and known[other]
                        total += abs(some[other] - some[row, column]) * both
        loss += gradient * total / max(known.sum(), 1)
    return float(loss)


@pytest.mark.parametrize("gradient", [0.0, 0.5])
def test_affine_invariant_loss_equals_a_loop(gradient: float) -> None:
    predicted, target, valid = some_depths(3, 12, 5), some_depths(3, 12, 6), some_valid(3, 12)
    found = affine_invariant_loss(predicted, target, valid, gradient=gradient)
    for index in range(3):
        expected = loop_of_affine(predicted[index], target[index], valid[index], gradient)
        assert found[index].item() == pytest.approx(expected, rel=1e-4)


def test_affine_invariant_loss_ignores_scale_and_shift_of_both_maps() -> None:
    predicted, target, valid = some_depths(2, 9, 7), some_depths(2, 9, 8), some_valid(2, 9)
    once = affine_invariant_loss(predicted, target, valid)
    moved = affine_invariant_loss(5 * predicted - 3, 0.2 * target + 40, valid)
    assert torch.allclose(once, moved, rtol=1e-4)
    assert affine_invariant_loss(3 * target + 1, target, valid).max() < 1e-4


def test_maps_of_one_value_or_without_valid_pixels_have_finite_gradients() -> None:
    target = some_depths(3, 6, 9)
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[1] = False
    target[2] = 4.0
    predicted = torch.full((3, 6, 6), 2.0).requires_grad_()
    loss = affine_invariant_loss(predicted, target, valid)
    loss.sum().backward()
    assert loss[1].item() == 0
    assert predicted.grad is not None
    assert bool(torch.isfinite(predicted.grad).all())


def test_alignment_equals_least_squares_and_delta_a_loop() -> None:
    predicted, target = some_depths(2, 8, 10).flatten(1), some_depths(2, 8, 12).flatten(1)
    valid = some_valid(2, 8).flatten(1)
    moved = aligned(predicted, target, valid)
    share = share_within(predicted, target, valid)
    for index in range(2):
        x, y = predicted[index][valid[index]].numpy(), target[index][valid[index]].numpy()
        solution = np.linalg.lstsq(np.stack([x, np.ones_like(x)], axis=1), y, rcond=None)[0]
        expected = predicted[index].numpy() * solution[0] + solution[1]
        assert moved[index].numpy() == pytest.approx(expected, abs=1e-4)
        within = [max(a / b, b / a) < 1.25 for a, b in zip(x, y, strict=True)]
        assert share[index].item() == pytest.approx(np.mean(within))


def decoder_of(config: DepthConfig | None = None) -> DepthDecoder:
    torch.manual_seed(0)
    return DepthDecoder(config or DepthConfig(**SHAPE), LANGUAGE, PIXELS)


@pytest.mark.parametrize("span", [(0.1, 10.0), (1.0, 80.0)])
def test_decoded_depth_lies_in_its_range_whatever_the_weights(span: tuple[float, float]) -> None:
    decoder = decoder_of(DepthConfig(**SHAPE, nearest=span[0], farthest=span[1]))
    with torch.no_grad():
        decoder.depth.weight.mul_(1e4)
        depth = decoder(references([2, 0, 1]), features(3)).logs.exp()
    assert depth.min() >= span[0] * (1 - 1e-5)
    assert depth.max() <= span[1] * (1 + 1e-5)
    assert depth.max() / depth.min() > 10


def test_pixels_without_truth_and_truth_out_of_range_take_no_part() -> None:
    decoder, asked, given = decoder_of(), references([1]), features(1)
    truth = depth_truth(1)
    assert bool((truth.values > 10).any())
    inside = truth.values.where(truth.values <= 10, torch.zeros_like(truth.values))
    decoded = decoder(asked, given)
    whole = decoder.losses(decoded, truth, asked.filled)
    masked = decoder.losses(decoded, replace(truth, values=inside), asked.filled)
    assert_same_outputs(whole.loss, masked.loss)
    nothing = replace(truth, values=torch.zeros_like(truth.values))
    assert decoder.losses(decoded, nothing, asked.filled).loss.item() == 0
    one = torch.zeros_like(truth.values)
    one[0, 7, 7] = 3.0
    assert decoder.losses(decoded, replace(truth, values=one), asked.filled).loss.item() == 0


def test_only_the_loss_of_relative_truth_ignores_the_scale_of_disparity() -> None:
    decoder, asked, given = decoder_of(), references([1]), features(1)
    decoded = decoder(asked, given)
    disparity = (-decoded.logs.detach()).exp()
    turned = (disparity.max() + 0.1 - disparity) * 7
    weights = torch.ones(1)
    truth = DepthTruth(turned, torch.tensor([True]), torch.tensor([True]), weights)
    scored = decoder.losses(decoded, truth, asked.filled)
    assert scored.parts["affine"].item() < 1e-4
    assert scored.parts["silog"].item() == 0
    assert scored.measures["depth_within"].item() == 1
    metric = replace(truth, relative=torch.tensor([False]))
    scored = decoder.losses(decoded, metric, asked.filled)
    assert scored.parts["silog"].item() > 0.1
    assert scored.parts["affine"].item() == 0


def test_a_map_weighs_the_same_in_any_mixture() -> None:
    decoder, asked, given = decoder_of(), references([2]), features(1)
    truth = replace(depth_truth(2), weights=torch.ones(2))
    decoded = decoder(asked, given)
    both = decoder.losses(decoded, truth, asked.filled).parts
    each = [
        decoder.losses(
            decoded, replace(truth, known=torch.tensor([k == 0, k == 1])), asked.filled
        ).parts
        for k in range(2)
    ]
    for name in ("silog", "affine"):
        assert both[name].item() == pytest.approx(sum(e[name].item() for e in each) / 2)


def test_a_depth_map_is_learned() -> None:
    decoder, asked, given = decoder_of(), references([1]), features(1)
    ramp = torch.linspace(1, 8, FINE).expand(1, FINE, FINE).contiguous()
    truth = DepthTruth(ramp, torch.tensor([False]), torch.tensor([True]), torch.ones(1))
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    shares = []
    for _ in range(50):
        scored = decoder.losses(decoder(asked, given), truth, asked.filled)
        optimizer.zero_grad()
        scored.loss.backward()
        optimizer.step()
        shares.append(scored.measures["depth_within"].item())
    assert shares[-1] > 0.5


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (48, 48), (1, 64)])
def test_a_map_at_source_size_is_the_letterboxs(size: tuple[int, int]) -> None:
    extent = ImageSize(*size)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    values = (1 + rows / 64 + columns / 64).astype(np.float32)
    # a canvas of the longer side's length with even padding moves pixels by whole numbers
    canvas = Letterbox(extent, max(size)).apply(DepthMap(values, "metric"))
    logs = torch.from_numpy(canvas.values.copy()).clamp(min=0.1).log()
    found = depth_at_source(logs, Letterbox(extent, max(size)), kind="metric")
    assert found.size == extent
    assert found.kind == "metric"
    if (max(size) - min(size)) % 2 == 0:
        assert found.values == pytest.approx(values, rel=1e-4)
    assert bool(found.known.all())


def test_units_are_those_of_their_references() -> None:
    decoder = decoder_of(DepthConfig(**SHAPE, kind="relative"))
    asked = references([1, 2])
    decoded = decoder(asked, features(2))
    assert decoded.index.tolist() == [[0, -1], [1, 2]]
    unit = decoder.to_unit(decoded, 1, 1, Letterbox(ImageSize(FINE, FINE), 64))
    assert unit.kind == "relative"
    assert unit.values == pytest.approx(decoded.logs[2].detach().exp().numpy(), rel=1e-4)
    broken = replace(decoded, logs=decoded.logs * torch.nan)
    with pytest.raises(GeometryError, match="depth map"):
        decoder.to_unit(broken, 0, 0, Letterbox(ImageSize(4, 4), 64))


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ModelError, match="expected 0 < nearest < farthest, got 5 and 2"):
        decoder_of(DepthConfig(**SHAPE, nearest=5, farthest=2))
