"""Functions that losses share, and decoders without targets, on one and on two ranks."""

from pathlib import Path

import pytest
import torch
from forked import run_ranks
from models.decoders import ranks
from models.decoders.cases import CASES, Case, module_of
from models.decoders.small import GRID, references, some_boxes
from safetensors.torch import load_file
from torch import nn

from deixis.models.losses.anchors import box_coverage
from deixis.models.losses.scoring import quality_loss, tied_zero, weighted_mean


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e38])
def test_a_tied_zero_is_zero_for_any_parameters(value: float) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    module.register_parameter("single", nn.Parameter(torch.tensor(value)))
    module[0].weight.requires_grad_(False)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    zero = tied_zero(module)
    # a gradient that is not finite is not passed on either
    (zero * torch.tensor(torch.nan)).backward()
    assert zero.item() == 0
    assert module[0].weight.grad is None
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name
    # the usual product with zero is not safe: the sum of large numbers is already infinite
    product = sum((p.sum() * 0 for p in module.parameters()), start=torch.zeros(()))
    assert bool(product.isnan())


def test_a_module_without_trainable_parameters_has_a_zero_too() -> None:
    module = nn.Linear(2, 2).requires_grad_(False)
    assert tied_zero(module).item() == 0
    assert not tied_zero(module).requires_grad


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_decoder_that_is_not_finite_and_has_no_targets_does_not_affect_others(case: Case) -> None:
    decoder, asked, given = case.build(), references([2, 1]), case.features(2)
    with torch.no_grad():
        for parameter in module_of(decoder).parameters():
            parameter.fill_(torch.nan)
    states = asked.states.requires_grad_()
    cells = given.maps.cells.requires_grad_()
    filled = torch.zeros_like(asked.filled)
    decoded = decoder(type(asked)(states, filled, asked.turns), given)
    scored = decoder.losses(decoded, case.truth(0), filled)
    (scored.loss + states.sum() + cells.sum()).backward()
    assert scored.loss.item() == 0
    assert states.grad is not None
    assert cells.grad is not None
    assert bool((states.grad == 1).all())
    assert bool((cells.grad == 1).all())
    for parameter in module_of(decoder).parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            assert not parameter.grad.any()


def test_two_ranks_of_which_one_uses_a_decoder_equal_one_process(tmp_path: Path) -> None:
    run_ranks(ranks.main, tmp_path)
    model = ranks.Shared()
    loss = sum((model(*ranks.batch_of(rank)) for rank in range(2)), start=torch.zeros(())) / 2
    loss.backward()
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert found.keys() == {name for name, _ in model.named_parameters()}
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            assert torch.allclose(found[name], parameter.grad, rtol=1e-5, atol=1e-6), name
    used = model.depth.mix.weight.grad
    assert used is not None
    assert bool(used.any())


def test_coverage_sums_to_one_on_the_canvas_and_to_nothing_beside_it() -> None:
    boxes = torch.cat([some_boxes(5), torch.tensor([[3.0, 3.0, 0.5, 0.5]])])
    coverage = box_coverage(boxes, GRID**2)
    assert torch.allclose(coverage.sum(1), torch.tensor([1.0] * 5 + [0.0]))
    fine = 400
    ticks = (torch.arange(fine) + 0.5) / fine
    for box, found in zip(boxes[:5], coverage[:5], strict=True):
        x = ((ticks - box[0]).abs() < box[2] / 2).float()
        y = ((ticks - box[1]).abs() < box[3] / 2).float()
        counted = (y[:, None] * x).reshape(GRID, fine // GRID, GRID, fine // GRID).sum((1, 3))
        assert torch.allclose(found, counted.flatten() / counted.sum(), atol=0.02)


def test_empty_weighted_means_and_quality_losses_are_zero() -> None:
    nothing = torch.zeros(0)
    assert weighted_mean(nothing, nothing).item() == 0
    assert quality_loss(nothing, nothing, nothing).item() == 0
    logits, agreement = torch.tensor([20.0, -20.0, 20.0]), torch.tensor([0.9, 0.5, 0.1])
    scale = torch.tensor([1.0, 1.0, 0.0])
    assert quality_loss(logits, agreement, scale).item() < 1e-6
    assert quality_loss(-logits, agreement, scale).item() == pytest.approx(20)
