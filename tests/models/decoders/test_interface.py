"""Properties of every unit decoder."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from closeness import assert_same_outputs
from models.decoders.cases import CASES, Case, module_of
from models.decoders.small import LANGUAGE, gradients_are_finite, largest_difference, references
from safetensors.torch import load_file, save_file

from deixis.models.references import LatentReferences

MOST = 9
every_decoder = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_decoder
@pytest.mark.parametrize("counts", [[0, 0], [1, 0], [MOST, MOST]], ids=["none", "one", "most"])
def test_gradients_are_finite_and_reach_every_parameter(case: Case, counts: list[int]) -> None:
    decoder = case.build()
    asked = references(counts)
    states = asked.states.requires_grad_()
    decoded = decoder(asked, case.features(2))
    scored = decoder.losses(decoded, case.truth(sum(counts)), asked.filled)
    scored.loss.backward()
    assert torch.isfinite(scored.loss)
    assert all(bool(torch.isfinite(part)) for part in scored.parts.values())
    assert gradients_are_finite(module_of(decoder))
    if not sum(counts):
        assert scored.loss.item() == 0
        assert all(not p.grad.any() for p in module_of(decoder).parameters() if p.grad is not None)
    else:
        assert states.grad is not None
        assert bool(torch.isfinite(states.grad).all())
        assert bool(states.grad.any())


@every_decoder
def test_truth_that_is_not_known_takes_no_part(case: Case) -> None:
    decoder, given, truth = case.build(), case.features(2), case.truth(3)
    # each reference has its own turn, so that references do not see one another
    asked = replace(references([2, 1]), turns=torch.arange(4).reshape(2, 2))
    known = torch.tensor([True, False, True])
    partly = replace(truth, **{name: known for name in ("known", "placed") if hasattr(truth, name)})
    fewer = replace(asked, filled=torch.tensor([[True, False], [True, False]]))
    scored = decoder.losses(decoder(asked, given), partly, asked.filled)
    alone = decoder.losses(decoder(fewer, given), selected(truth, [0, 2]), fewer.filled)
    assert scored.loss.item() == pytest.approx(alone.loss.item(), rel=1e-4)
    for name, part in scored.parts.items():
        assert part.item() == pytest.approx(alone.parts[name].item(), rel=1e-4), name


def selected(truth: Any, order: list[int]) -> Any:
    """Return the truth of some references, with their weights."""
    values = {field.name: getattr(truth, field.name) for field in fields(truth)}
    # masks that references index are shared
    shared = {"masks"} if "slots" in values else set()
    return type(truth)(
        **{name: value if name in shared else value[order] for name, value in values.items()}
    )


@every_decoder
def test_references_may_come_in_any_order(case: Case) -> None:
    decoder, asked, given = case.build(), references([4]), case.features(1)
    if learned_positions(decoder):
        return
    order = [2, 0, 3, 1]
    turned = replace(asked, states=asked.states[:, order])
    with torch.no_grad():
        before, after = decoder(asked, given), decoder(turned, given)
        truth = case.truth(4)
        first = decoder.losses(before, truth, asked.filled).loss
        second = decoder.losses(after, selected(truth, order), asked.filled).loss
    outputs = (case.outputs(one, asked.filled) for one in (before, after))
    for expected, moved in zip(*outputs, strict=True):
        assert largest_difference(expected[order], moved) < 1e-5
    assert first.item() == pytest.approx(second.item(), rel=1e-5)


@every_decoder
def test_truth_follows_the_order_of_a_matching_and_weights_stay(case: Case) -> None:
    truth, order = case.truth(3), torch.tensor([2, 0, 1])
    taken, whole = truth.take(order), selected(truth, [2, 0, 1])
    for field in fields(truth):
        stays = field.name in {"weights", "inside", "extents"}
        expected = truth if stays else whole
        assert torch.equal(getattr(taken, field.name), getattr(expected, field.name)), field.name


def learned_positions(decoder: object) -> bool:
    """DETR's queries have positions, so places in the sequence differ."""
    return any("query_position" in name for name, _ in module_of(decoder).named_parameters())


@every_decoder
def test_neighbours_and_padding_change_nothing(case: Case) -> None:
    decoder, counts = case.build(), [3, 1, 0]
    asked, given = references(counts), case.features(3)
    wide = references(counts, most=7)
    with torch.no_grad():
        together = case.outputs(decoder(asked, given), asked.filled)
        padded = case.outputs(decoder(wide, given), wide.filled)
        start = 0
        for row, count in enumerate(counts):
            one = LatentReferences(asked.states[[row]], asked.filled[[row]], asked.turns[[row]])
            alone = case.outputs(decoder(one, case.rows(given, [row])), one.filled)
            for index, expected in enumerate(alone):
                some = slice(start, start + count)
                assert largest_difference(together[index][some], expected) < 1e-5
                assert largest_difference(padded[index][some], expected) < 1e-5
            start += count


@every_decoder
def test_loading_restores_a_saved_decoder(case: Case, tmp_path: Path) -> None:
    decoder, other = case.build(), case.build()
    asked, given = references([2]), case.features(1)
    with torch.no_grad():
        for parameter in module_of(decoder).parameters():
            parameter.add_(0.01)
    save_file(
        {k: v.clone() for k, v in module_of(decoder).state_dict().items()},
        tmp_path / "a.safetensors",
    )
    module_of(other).load_state_dict(load_file(tmp_path / "a.safetensors"))
    with torch.no_grad():
        for first, second in zip(
            case.outputs(decoder(asked, given), asked.filled),
            case.outputs(other(asked, given), asked.filled),
            strict=True,
        ):
            assert_same_outputs(first, second)


@every_decoder
def test_it_runs_in_bfloat16(case: Case) -> None:
    decoder, asked, given = case.build(), references([2, 1]), case.features(2)
    with torch.autocast("cpu", torch.bfloat16):
        decoded = decoder(asked, given)
        scored = decoder.losses(decoded, case.truth(3), asked.filled)
    assert scored.loss.dtype == torch.float32
    scored.loss.backward()
    assert gradients_are_finite(module_of(decoder))
    exact = decoder.losses(decoder(asked, given), case.truth(3), asked.filled)
    assert scored.loss.item() == pytest.approx(exact.loss.item(), rel=0.1)


@every_decoder
def test_costs_are_small_if_the_truth_equals_the_prediction(case: Case) -> None:
    decoder, asked, given = case.build(), references([3]), case.features(1)
    truth, members = case.truth(3), torch.tensor([[0, 1, 2], [2, 0, -1]])
    with torch.no_grad():
        decoded = decoder(asked, given)
        cost = decoder.costs(decoded, truth, asked.filled, members)
        assert cost.shape == (2, 3, 3)
        assert bool(torch.isfinite(cost).all())
        # the padded costs have the same pairs in another order
        assert torch.allclose(cost[1, :2, :2], cost[0][[2, 0]][:, [2, 0]], atol=1e-5)
        none = torch.zeros(3, dtype=torch.bool)
        fields_ = {name: none for name in ("known", "placed") if hasattr(truth, name)}
        nothing = replace(truth, **fields_)
        assert not decoder.costs(decoded, nothing, asked.filled, members).any()


@every_decoder
def test_a_decoder_without_references_has_zero_loss_and_gradients(case: Case) -> None:
    decoder, asked, given = case.build(), references([2, 1]), case.features(2)
    nobody = replace(asked, filled=torch.zeros_like(asked.filled))
    decoded = decoder(nobody, given)
    scored = decoder.losses(decoded, case.truth(0), torch.zeros_like(asked.filled))
    scored.loss.backward()
    assert scored.loss.item() == 0
    trainable = [p for p in module_of(decoder).parameters() if p.requires_grad]
    assert all(p.grad is not None and not p.grad.any() for p in trainable)
    assert asked.states.shape[-1] == LANGUAGE
