"""Which decoder is given which reference, whose truth each takes, and what masks lose."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from tiny import tiny_model
from torch import Tensor
from torch.nn import functional
from transformers.models.maskformer import modeling_maskformer as official

from deixis.errors import ModelError
from deixis.geometry import Box, ImageSize, Mask
from deixis.inference import Predictor
from deixis.models import losses
from deixis.models.decoders import BoxPredictions, MaskPredictions
from deixis.models.matching import pairwise_mask_cost
from deixis.models.objectives import DecodedUnits, Route, Truth, match_truth, unit_losses
from deixis.models.pointing import PointingOutput, PointingVLM
from deixis.models.positions import cells_of_images
from deixis.models.references import LatentReferences
from deixis.notation import split_markers
from deixis.processing.batch import Batch, collate
from deixis.processing.processor import Processor
from deixis.structures import (
    Conversation,
    GroundedPhrase,
    GroundedText,
    Reference,
    Turn,
    Unit,
    UnitGroup,
)

SIZE = ImageSize(40, 60)
WEIGHTS = {"l1": 5.0, "giou": 2.0, "focal": 20.0, "dice": 1.0, "quality": 0.25}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_model(*, boxes: int, masks: int, **changes: Any) -> tuple[PointingVLM, Processor]:
    """A model whose decoders are not anchored and have these numbers of queries."""
    shape = {"width": 32, "heads": 2, "hidden": 48, "layers": 1, "anchored": False}
    return tiny_model(
        box_decoder={**shape, "num_queries": boxes},
        mask_decoder={**shape, "num_queries": masks},
        proposals=False,
        tokens_from="encoder",
        **changes,
    )


def some_units(index: int) -> dict[str, Unit]:
    box = Box(2.0 * index, 3.0, 2.0 * index + 9.0, 20.0)
    return {"box": box, "mask": Mask.from_box(box, SIZE)}


def turn_of(units: tuple[str, ...], count: int) -> Turn:
    """A question and an answer whose one phrase has ``count`` references."""
    references = tuple(
        Reference(tuple(some_units(index)[unit] for unit in units)) for index in range(count)
    )
    phrase = GroundedPhrase("things", 4, 10, (UnitGroup(units, references),))
    return Turn(("Where?",), GroundedText("The things.", (phrase,)))


def batch_of(processor: Processor, *turns: Turn) -> Batch:
    image = np.zeros((*SIZE, 3), np.uint8)
    row = processor.row(Conversation("one", image, SIZE, turns, independent=True))
    return collate([row], pad_id=processor.tokenizer.pad_id)


def run(model: PointingVLM, batch: Batch) -> PointingOutput:
    output: PointingOutput = model(**{name: getattr(batch, name) for name in batch.__slots__})
    return output


def references_of(count: int, width: int, *, turns: list[int] | None = None) -> LatentReferences:
    states = torch.randn(1, count, width, generator=generator(1))
    filled = torch.ones(1, count, dtype=torch.bool)
    return LatentReferences(states, filled, torch.tensor([turns or [1] * count]))


def test_a_decoder_needs_queries_for_the_references_that_ask_it_alone() -> None:
    model, processor = plain_model(boxes=4, masks=2)
    batch = batch_of(processor, turn_of(("box",), 4), turn_of(("mask",), 2))
    output = run(model, batch)
    assert output.parts["box"] > 0
    assert output.parts["mask"] > 0
    for unit, count, queries in (("box", 5, 4), ("mask", 3, 2)):
        many = batch_of(processor, turn_of((unit,), count))
        message = f"asks for {count} units of type {unit}, their decoder has {queries} queries"
        with pytest.raises(ModelError, match=message):
            run(model, many)


def test_references_with_composite_units_go_to_both_decoders() -> None:
    model, processor = plain_model(boxes=4, masks=4)
    batch = batch_of(processor, turn_of(("box", "mask"), 2), turn_of(("mask",), 1))
    references = references_of(3, model.config.text_config.hidden_size, turns=[1, 1, 2])
    wanted = model.wanted_by_truth(references, truth_of(batch))
    assert wanted["box"].tolist() == [[True, True, False]]
    assert wanted["mask"].tolist() == [[True, True, True]]
    seen = model.see(batch.pixel_values)
    units = model.decode(references, seen, wanted=wanted)
    assert units.routes["box"].places.tolist() == [[0, 1, -1]]
    assert units.routes["mask"].places.tolist() == [[0, 1, 2]]
    assert units.boxes is not None
    assert units.boxes.boxes.shape[1] == 2


def truth_of(batch: Batch) -> Truth:
    given = batch.references
    return Truth(
        given.boxes,
        given.asks_box,
        given.has_box,
        given.masks,
        given.mask_index,
        given.has_mask,
        given.groups,
        given.weights,
        {},
        batch.extents,
    )


def test_anchored_decoders_learn_places_from_every_reference() -> None:
    model, processor = tiny_model()
    batch = batch_of(processor, turn_of(("box",), 2), turn_of(("mask",), 1))
    references = references_of(3, model.config.text_config.hidden_size, turns=[1, 1, 2])
    wanted = model.wanted_by_truth(references, truth_of(batch))
    assert wanted["box"].all()
    assert wanted["mask"].all()


@pytest.mark.parametrize("unit", ["box", "mask"])
def test_a_batch_in_which_all_ask_for_one_unit_teaches_both_anchored_decoders(unit: str) -> None:
    model, processor = tiny_model()
    output = run(model, batch_of(processor, turn_of((unit,), 3)))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert output.parts["box"] > 0
    assert output.parts["mask"] > 0


def test_a_unit_that_is_asked_for_and_not_known_still_takes_a_query() -> None:
    model, processor = plain_model(boxes=2, masks=2)
    turn = turn_of(("box",), 2)
    assert turn.answer is not None
    (phrase,) = turn.answer.phrases
    (group,) = phrase.groups
    unknown = replace(group, references=(Reference((None,)), *group.references[1:]))
    answer = replace(turn.answer, phrases=(replace(phrase, groups=(unknown,)),))
    batch = batch_of(processor, replace(turn, answer=answer))
    assert batch.references.asks_box.tolist() == [True, True]
    assert batch.references.has_box.tolist() == [False, True]
    assert torch.isfinite(run(model, batch).loss)


def test_the_queries_of_a_turn_do_not_depend_on_other_turns_of_its_row() -> None:
    model, _ = plain_model(boxes=4, masks=4)
    width = model.config.text_config.hidden_size
    together = references_of(5, width, turns=[1, 1, 1, 2, 2])
    alone = LatentReferences(
        together.states[:, 3:], together.filled[:, 3:], torch.ones(1, 2, dtype=torch.long)
    )
    seen = model.see(torch.rand(1, 3, 64, 64, generator=generator(2)))
    with torch.no_grad():
        first, second = (model.decode(each, seen) for each in (together, alone))
    assert first.boxes is not None
    assert second.boxes is not None
    torch.testing.assert_close(first.boxes.boxes[:, 3:], second.boxes.boxes)


def answer_of(model: PointingVLM, processor: Processor, units: str, count: int, **how: Any) -> Any:
    """What the predictor makes of an answer with ``count`` references that ask for ``units``."""
    predictor = Predictor(model, processor.tokenizer)
    question = predictor._question(np.zeros((*SIZE, 3), np.uint8), "Where?")
    marks = "".join(f"[{index}]<REF>" for index in range(count))
    pieces = split_markers(
        f"<Phrase>it</Phrase>(<Unit>{units}</Unit>{marks})", processor.notation.spelling
    )
    looked = predictor._look([question], 2, None)[0]
    references = references_of(count, model.config.text_config.hidden_size)
    generated = replace(looked.generated, references=references.states[0])
    parsed = processor.notation.decode(pieces, question.size)
    wanted = predictor._wanted([parsed], references.filled, None, **how)
    with torch.no_grad():
        seen = model.see(torch.zeros(1, 3, 64, 64))
        decoded = model.decode(references, seen, wanted=wanted)
    read = predictor._read(
        question,
        replace(looked, generated=generated, pieces=pieces, parsed=parsed, decoded=decoded),
        None,
        None,
    )
    return read, decoded


def test_forty_boxes_are_answered_by_a_model_with_thirty_mask_queries() -> None:
    model, processor = plain_model(boxes=100, masks=30, concepts=[])
    answer, decoded = answer_of(model, processor, "box", 40)
    (phrase,) = answer.phrases
    assert len(phrase.references) == 40
    assert decoded.routes["box"].filled.sum() == 40
    assert not decoded.routes["mask"].filled.any()
    assert "too_many_units" not in {problem.code for problem in answer.problems}


@pytest.mark.parametrize("unit", ["mask", "depth"])
def test_too_many_units_are_a_problem_of_the_answer_that_asks_for_them(unit: str) -> None:
    depth = {"width": 32, "heads": 2, "hidden": 48, "num_queries": 30}
    model, processor = plain_model(boxes=100, masks=30, concepts=[], decoders={"depth": depth})
    answer, _ = answer_of(model, processor, unit, 40)
    (problem,) = answer.problems
    assert problem.code == "too_many_units"
    message = f"an answer asks for 40 units of type {unit}, their decoder has 30 queries"
    assert problem.message == message
    (phrase,) = answer.phrases
    # none of the references is lost, and none has a unit that no decoder gave
    assert [reference.units for reference in phrase.references] == [(None,)] * 40
    assert {reference.score for reference in phrase.references} == {None}


def test_units_beside_those_asked_for_are_no_reason_to_fail() -> None:
    model, processor = plain_model(boxes=100, masks=30, concepts=[])
    _, few = answer_of(model, processor, "box", 3, beside=True)
    assert few.routes["mask"].filled.sum() == 3
    _, many = answer_of(model, processor, "box", 40, beside=True)
    assert not many.routes["mask"].filled.any()


def pairs_by_hand(logits: Tensor, target: Tensor, inside: Tensor) -> np.ndarray:
    """20 · focal + dice of every pair, pixel by pixel."""
    cost = np.zeros((len(logits), len(target)))
    for i, row in enumerate(logits[:, inside].double()):
        chance = row.sigmoid()
        for j, mask in enumerate(target[:, inside].double()):
            right = torch.where(mask > 0.5, chance, 1 - chance)
            balance = torch.where(mask > 0.5, 0.25, 0.75)
            focal = (-balance * (1 - right) ** 2 * right.log()).mean()
            dice = 1 - (2 * (chance * mask).sum() + 1) / (chance.sum() + mask.sum() + 1)
            cost[i, j] = 20 * focal + dice
    return cost


def test_mask_cost_is_focal_and_dice_of_every_pair_over_the_image() -> None:
    logits = torch.randn(3, 4, 50, generator=generator(3)) * 3
    target = (torch.rand(3, 4, 50, generator=generator(4)) > 0.6).float()
    inside = torch.rand(3, 50, generator=generator(5)) > 0.3
    cost = pairwise_mask_cost(logits, target, inside, focal=20, dice=1)
    for group in range(3):
        expected = pairs_by_hand(logits[group], target[group], inside[group])
        np.testing.assert_allclose(cost[group].numpy(), expected, rtol=1e-4)
    # padding is what differs: over all pixels, costs are those of MaskFormer's matcher
    whole = pairwise_mask_cost(logits, target, torch.ones_like(inside), focal=20, dice=1)
    for group in range(3):
        theirs = 20 * official.pair_wise_sigmoid_focal_loss(logits[group], target[group])
        theirs += official.pair_wise_dice_loss(logits[group], target[group])
        torch.testing.assert_close(whole[group], theirs, rtol=1e-4, atol=1e-5)


def masks_of(logits: Tensor) -> tuple[DecodedUnits, Route]:
    filled = torch.ones(1, len(logits), dtype=torch.bool)
    route = Route(filled, torch.arange(len(logits))[None])
    references = LatentReferences(torch.zeros(1, len(logits), 4), filled, filled.long())
    decoded = MaskPredictions(logits[None], torch.zeros(1, len(logits)), ())
    return DecodedUnits(references, None, decoded, {}, {"mask": route}), route


def mask_truth(masks: Tensor, groups: Tensor, extents: Tensor | None = None) -> Truth:
    count = len(masks)
    no, yes = torch.zeros(count, dtype=torch.bool), torch.ones(count, dtype=torch.bool)
    boxes = torch.full((count, 4), 0.5)
    index, even = torch.arange(count), torch.ones(count)
    return Truth(boxes, no, no, masks, index, yes, groups, even, {}, extents)


@pytest.mark.parametrize("seed", range(8))
def test_masks_take_the_truth_that_scipy_gives_group_by_group(seed: int) -> None:
    logits = torch.randn(9, 8, 8, generator=generator(seed)) * 2
    masks = (torch.rand(9, 8, 8, generator=generator(seed + 100)) > 0.7).to(torch.uint8)
    groups = torch.tensor([[0, 1, 2, 3], [4, 5, -1, -1], [6, 7, 8, -1]])
    extents = torch.tensor([[0.0, 0.25, 1.0, 0.75]])
    units, _ = masks_of(logits)
    order = match_truth(units, mask_truth(masks, groups, extents), WEIGHTS)
    inside = cells_of_images(extents, 8)[0].flatten()
    for group in groups.tolist():
        own = [index for index in group if index >= 0]
        cost = pairs_by_hand(logits.flatten(1)[own], masks.flatten(1)[own], inside)
        taken = [own.index(index) for index in order[own].tolist()]
        best = cost[linear_sum_assignment(cost)].sum()
        assert cost[range(len(own)), taken].sum() == pytest.approx(best, rel=1e-5)


def test_the_focal_term_decides_where_dice_alone_decides_otherwise() -> None:
    generator_ = generator(11)
    differing = 0
    for _ in range(40):
        logits = torch.randn(2, 4, 4, generator=generator_) * 4
        masks = torch.rand(2, 4, 4, generator=generator_) > 0.5
        units, _ = masks_of(logits)
        truth = mask_truth(masks.to(torch.uint8), torch.tensor([[0, 1]]))
        both, dice = (
            match_truth(units, truth, {**WEIGHTS, "focal": focal}).tolist() for focal in (20.0, 0.0)
        )
        differing += both != dice
    assert differing


def test_masks_are_scored_at_the_size_of_their_truth_and_inside_the_image() -> None:
    logits = torch.randn(20, 8, 8, generator=generator(6)) * 2
    target = (torch.rand(20, 32, 32, generator=generator(7)) > 0.5).to(torch.uint8)
    extents = torch.tensor([[0.0, 0.25, 1.0, 0.75]]).expand(20, 4)
    focal, dice, iou = losses.mask_losses(logits, target, extents)
    larger = functional.interpolate(logits[:, None], (32, 32), mode="bilinear")[:, 0]
    # the image fills rows 8 to 23
    pixels, masks = larger[:, 8:24].flatten(1), target[:, 8:24].flatten(1).float()
    theirs = official.sigmoid_focal_loss(pixels, masks, 20)
    torch.testing.assert_close(focal.mean(), theirs, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(dice.mean(), official.dice_loss(pixels, masks, 20))
    hard = pixels > 0
    both = (hard & (masks > 0)).sum(1) / (hard | (masks > 0)).sum(1)
    torch.testing.assert_close(iou, both)


def test_gradients_of_masks_are_those_of_all_masks_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(losses, "PIXELS_AT_ONCE", 4 * 16 * 16)
    logits = (torch.randn(18, 4, 4, generator=generator(8)) * 2).requires_grad_()
    target = (torch.rand(18, 16, 16, generator=generator(9)) > 0.5).to(torch.uint8)
    extents = torch.tensor([[0.25, 0.0, 0.75, 1.0]]).expand(18, 4)
    focal, dice, _ = losses.mask_losses(logits, target, extents)
    (found,) = torch.autograd.grad((20 * focal + dice).sum(), logits)
    larger = functional.interpolate(logits[:, None], (16, 16), mode="bilinear")[:, 0]
    pixels, masks = larger[:, :, 4:12].flatten(1), target[:, :, 4:12].flatten(1).float()
    loss = 20 * losses.focal_loss(pixels, masks) + losses.dice_loss(pixels, masks)
    (expected,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(found, expected)


def test_no_masks_lose_nothing() -> None:
    none = torch.zeros(0, 4, 4)
    parts = losses.mask_losses(none, torch.zeros(0, 8, 8, dtype=torch.uint8), torch.zeros(0, 4))
    assert [len(part) for part in parts] == [0, 0, 0]


def test_what_is_predicted_in_padding_changes_no_loss() -> None:
    logits = torch.randn(2, 8, 8, generator=generator(12))
    masks = (torch.rand(2, 8, 8, generator=generator(13)) > 0.5).to(torch.uint8)
    extents = torch.tensor([[0.0, 0.25, 1.0, 0.75]])
    truth = mask_truth(masks, torch.tensor([[0, 1]]), extents)
    spoiled = logits.clone()
    spoiled[:, :2], spoiled[:, 6:] = 9.0, 9.0
    first, second = (
        unit_losses(masks_of(each)[0], truth, WEIGHTS)[0]["mask"] for each in (logits, spoiled)
    )
    assert first.item() == pytest.approx(second.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("extent", "rows", "columns"),
    [
        ((0.0, 0.25, 1.0, 0.75), [1, 2], [0, 1, 2, 3]),
        # the middle of the first cell only
        ((0.0, 0.0, 0.2, 1.0), [0, 1, 2, 3], [0]),
        # thinner than a cell, and no centre in it
        ((0.3, 0.0, 0.32, 1.0), [0, 1, 2, 3], [1]),
        ((0.999, 0.0, 1.0, 1.0), [0, 1, 2, 3], [3]),
    ],
)
def test_cells_of_an_image_are_those_whose_centre_it_holds(
    extent: tuple[float, ...], rows: list[int], columns: list[int]
) -> None:
    inside = cells_of_images(torch.tensor([extent]), 4)[0]
    assert inside.any(1).nonzero()[:, 0].tolist() == rows
    assert inside.any(0).nonzero()[:, 0].tolist() == columns


def test_a_batch_says_where_its_images_lie_on_the_canvas() -> None:
    _, processor = plain_model(boxes=4, masks=4)
    batch = batch_of(processor, turn_of(("mask",), 1))
    assert batch.extents is not None
    # 60 x 40 on 64 x 64
    torch.testing.assert_close(batch.extents, torch.tensor([[0.0, 1 / 6, 1.0, 5 / 6]]))
    inside = cells_of_images(batch.extents, batch.references.masks.shape[-1])
    assert not (batch.references.masks.bool() & ~inside).any()


def test_masks_can_be_learned_on_the_whole_canvas() -> None:
    model, processor = plain_model(boxes=4, masks=4, mask_target="canvas")
    batch = batch_of(processor, turn_of(("mask",), 2), turn_of(("box",), 1))
    # none for the reference that asks for a box
    assert batch.references.masks.shape == (2, 64, 64)
    assert batch.references.mask_index.tolist() == [0, 1]
    output = run(model, batch)
    output.loss.backward()
    assert output.parts["mask"] > 0


def test_boxes_of_a_composite_group_and_its_masks_take_one_order() -> None:
    boxes = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2]])
    masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
    masks[0, :4], masks[1, 4:] = 1, 1
    yes = torch.ones(2, dtype=torch.bool)
    truth = Truth(
        boxes, yes, yes, masks, torch.arange(2), yes, torch.tensor([[0, 1]]), torch.ones(2)
    )
    filled = yes[None]
    route = Route(filled, torch.tensor([[0, 1]]))
    references = LatentReferences(torch.zeros(1, 2, 4), filled, filled.long())
    turned = (masks.flip(0).float() - 0.5) * 8
    units = DecodedUnits(
        references,
        BoxPredictions((boxes.flip(0)[None],), torch.zeros(1, 2), ()),
        MaskPredictions(turned[None], torch.zeros(1, 2), ()),
        {},
        {"box": route, "mask": route},
    )
    assert match_truth(units, truth, WEIGHTS).tolist() == [1, 0]
    parts, measures = unit_losses(units, truth, WEIGHTS)
    assert measures["box_iou"] == pytest.approx(1.0)
    assert measures["mask_iou"] == pytest.approx(1.0)
    assert parts["box"] < 0.2
