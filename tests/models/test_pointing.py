from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from closeness import assert_same_outputs
from tiny import tiny_model

from deixis.batch import Batch
from deixis.data.scenes import draw_scene
from deixis.data.scenes.scene_sample import scene_sample
from deixis.data.tasks import sample_turns
from deixis.errors import ModelError
from deixis.models.pointing import PointingOutput, PointingVLM, training_attention
from deixis.models.references import LatentReferences
from deixis.processing.batch import Row, collate
from deixis.processing.processor import Processor
from deixis.structures import Conversation


def scene_rows(processor: Processor, count: int, *, independent: bool = True) -> list[Row]:
    rows = []
    for index in range(count):
        sample = scene_sample(draw_scene(3, index, level="standard", split="train", long_side=64))
        turns = sample_turns(sample, np.random.default_rng(index), count=5)
        rows.append(
            processor.row(
                Conversation(sample.id, sample.image, sample.size, turns, independent=independent),
                instances=sample.instances,
            )
        )
    return rows


def run(model: PointingVLM, batch: Batch) -> PointingOutput:
    output = model(batch)
    assert isinstance(output, PointingOutput)
    return output


@pytest.mark.parametrize("anchored", [True, False])
def test_every_part_gets_finite_gradients(anchored: bool) -> None:  # noqa: FBT001
    model, processor = tiny_model(anchored=anchored)
    batch = collate(scene_rows(processor, 4), pad_id=processor.tokenizer.pad_id)
    assert len(batch.regions)
    assert len(batch.references.boxes)
    output = run(model.train(), batch)
    output.loss.backward()
    for name, part in model.named_children():
        gradients = [p.grad for p in part.parameters() if p.grad is not None]
        assert gradients, name
        assert all(torch.isfinite(g).all() for g in gradients), name
        assert any(g.abs().sum() > 0 for g in gradients), name


def test_a_batch_without_references_or_regions_has_finite_gradients_everywhere() -> None:
    model, processor = tiny_model()
    sample = scene_sample(draw_scene(3, 0, level="plain", split="train", long_side=64))
    turns = sample_turns(sample, np.random.default_rng(0), count=2, tasks=["vqa"])
    row = processor.row(Conversation("x", sample.image, sample.size, turns))
    output = run(model, collate([row], pad_id=processor.tokenizer.pad_id))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert output.parts["box"].item() == 0
    assert output.parts["mask"].item() == 0


def losses_alone(model: PointingVLM, rows: list[Row], pad_id: int) -> list[float]:
    return [float(run(model, collate([row], pad_id=pad_id)).parts["box"]) for row in rows]


def test_a_rows_hidden_states_do_not_depend_on_neighbours_or_padding() -> None:
    model, processor = tiny_model()
    rows = scene_rows(processor, 3)
    pad_id = processor.tokenizer.pad_id

    def hidden(batch: Batch) -> list[torch.Tensor]:
        with torch.no_grad():
            seen = model.see(batch.pixel_values)
            embedded = model.embed(batch.input_ids, seen, batch.regions)
            attention = training_attention(batch.turns, batch.independent)
            states = model.read(embedded, batch.positions, attention)
        return [state[turns >= 0] for state, turns in zip(states, batch.turns, strict=True)]

    together = hidden(collate(rows, pad_id=pad_id))
    moved = hidden(collate(rows[::-1], pad_id=pad_id, multiple=32))[::-1]
    for row, first, second in zip(rows, together, moved, strict=True):
        alone = hidden(collate([row], pad_id=pad_id))[0]
        assert torch.allclose(first, alone, atol=1e-5)
        assert torch.allclose(second, alone, atol=1e-5)


def test_independent_turns_equal_turns_asked_alone() -> None:
    model, processor = tiny_model()
    sample = scene_sample(draw_scene(3, 1, level="standard", split="train", long_side=64))
    turns = sample_turns(sample, np.random.default_rng(1), count=4, tasks=["locate", "vqa"])
    packed = Conversation("x", sample.image, sample.size, turns, independent=True)
    pad_id = processor.tokenizer.pad_id

    def states(conversation: Conversation) -> torch.Tensor:
        batch = collate([processor.row(conversation)], pad_id=pad_id)
        with torch.no_grad():
            seen = model.see(batch.pixel_values)
            embedded = model.embed(batch.input_ids, seen, batch.regions)
            attention = training_attention(batch.turns, batch.independent)
            return model.read(embedded, batch.positions, attention)[0][batch.turns[0] > 0]

    together = states(packed)
    alone = torch.cat([states(replace(packed, turns=(turn,))) for turn in turns])
    assert torch.allclose(together, alone, atol=1e-5)


def test_order_of_targets_in_a_group_does_not_change_the_loss() -> None:
    model, processor = tiny_model()
    batch = collate(scene_rows(processor, 6), pad_id=processor.tokenizer.pad_id)
    groups = [group[group >= 0] for group in batch.references.groups]
    assert max(len(group) for group in groups) > 1
    order = torch.arange(len(batch.references.boxes))
    for group in groups:
        order[group] = group.flip(0)
    truth = batch.references
    own = torch.zeros_like(order)
    own[truth.mask_index] = torch.arange(len(truth.mask_index))
    masks = truth.masks[own[order[truth.mask_index]]]
    turned = replace(truth, boxes=truth.boxes[order], masks=masks)
    before, after = run(model, batch), run(model, replace(batch, references=turned))
    for name in before.parts:
        assert torch.allclose(before.parts[name], after.parts[name], atol=1e-5), name


def test_saved_model_equals_loaded_model(tmp_path: Path) -> None:
    model, processor = tiny_model()
    batch = collate(scene_rows(processor, 2), pad_id=processor.tokenizer.pad_id)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = PointingVLM.from_pretrained(tmp_path)
    loaded.train(False)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert_same_outputs(run(model, batch).loss, run(loaded, batch).loss)


def test_image_tokens_and_placeholders_must_agree() -> None:
    model, processor = tiny_model()
    batch = collate(scene_rows(processor, 1), pad_id=processor.tokenizer.pad_id)
    short = batch.input_ids.clone()
    short[0, 1] = processor.tokenizer.end_id
    with pytest.raises(
        ModelError, match="31 <image> tokens in the text: expected as many features"
    ):
        run(model, replace(batch, input_ids=short))


def test_plain_decoder_refuses_more_references_than_queries() -> None:
    model, _ = tiny_model(anchored=False)
    width = model.config.text_config.hidden_size
    many = LatentReferences(
        torch.zeros(1, 25, width),
        torch.ones(1, 25, dtype=torch.bool),
        torch.ones(1, 25, dtype=torch.long),
    )
    seen = model.see(torch.zeros(1, 3, 64, 64))
    with pytest.raises(
        ModelError, match="asks for 25 units of type box, their decoder has 24 queries"
    ):
        model.decode(many, seen)
