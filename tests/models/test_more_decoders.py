"""Unit decoders beyond boxes and masks, inside the whole model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.decoders.segmenters import tiny_sam
from tiny import tiny_decoders, tiny_model

from deixis.batch import Batch
from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.tasks import sample_turns
from deixis.errors import ModelError, PromptError
from deixis.geometry import Box, DepthMap, ImageSize, Keypoints, Mask
from deixis.inference import Predictor
from deixis.inference.load import WEIGHTS
from deixis.models.config import PointingVLMConfig
from deixis.models.decoders.depth import DepthConfig, DepthDecoder, DepthTruth
from deixis.models.decoders.keypoints import KeypointTruth
from deixis.models.decoders.registry import DECODERS
from deixis.models.pointing import PointingOutput, PointingVLM
from deixis.models.references import LatentReferences, pick_references
from deixis.notation import split_markers
from deixis.processing.batch import Row, collate
from deixis.processing.processor import Processor
from deixis.structures import Conversation, GroundedText, Sample, Turn
from deixis.training.loop import set_trainable
from deixis.training.recipe import Stage

SHAPE: dict[str, Any] = {"width": 32, "heads": 2, "hidden": 48}
BODIES = {"keypoint": SHAPE, "depth": {**SHAPE, "nearest": 0.5, "farthest": 40.0}}
LOCATION = {"location": {"width": 32}}


def segmenter() -> dict[str, Any]:
    return {"segmenter": {"segmenter": tiny_sam().config.to_dict()}}


def people(count: int) -> list[Sample]:
    """Return drawn scenes with keypoints and depth."""
    found = []
    for index in range(200):
        sample = scene_sample(draw_scene(3, index, level="plain", split="train", long_side=64))
        if len(asked(sample)) == 2:
            found.append(sample)
        if len(found) == count:
            return found
    raise AssertionError("no people in 200 scenes")


def asked(sample: Sample) -> tuple[Turn, ...]:
    """One turn for a body's keypoints, one for the depth map."""
    turns: list[Turn] = []
    for task in ("keypoint", "depth"):
        turns += sample_turns(sample, np.random.default_rng(0), count=1, tasks=[task])
    return tuple(turns)


def row_of(processor: Processor, sample: Sample, turns: tuple[Turn, ...]) -> Row:
    conversation = Conversation(sample.id, sample.image, sample.size, turns, independent=True)
    return processor.row(conversation, instances=sample.instances)


def batch_of(processor: Processor, rows: list[Row]) -> Batch:
    return collate(rows, pad_id=processor.tokenizer.pad_id)


def run(model: PointingVLM, batch: Batch) -> PointingOutput:
    output = model(batch)
    assert isinstance(output, PointingOutput)
    return output


def boxes_and_masks(sample: Sample) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for task in ("rec", "res"):
        turns += sample_turns(sample, np.random.default_rng(1), count=2, tasks=[task])
    return tuple(turns)


def test_decoders_are_parts_by_their_units() -> None:
    model, _ = tiny_model(more=BODIES)
    assert {"keypoint_decoder", "depth_decoder"} <= dict(model.named_children()).keys()
    assert model.units == ("box", "mask", "keypoint", "depth")
    plain, _ = tiny_model()
    assert plain.units == ("box", "mask")
    assert set(dict(model.named_children())) - set(dict(plain.named_children())) == {
        "keypoint_decoder",
        "depth_decoder",
    }


def test_truth_of_bodies_and_depth_lies_on_the_canvas() -> None:
    _, processor = tiny_model(more=BODIES)
    (sample,) = people(1)
    row = row_of(processor, sample, asked(sample))
    bodies = [one for one in sample.instances if one.keypoints is not None]
    assert row.truth["keypoint"].index.tolist() == list(range(len(bodies)))
    assert row.truth["depth"].index.tolist() == [len(bodies)]
    keypoints, depths = row.truth["keypoint"].truth, row.truth["depth"].truth
    assert isinstance(keypoints, KeypointTruth)
    assert isinstance(depths, DepthTruth)
    letterbox = processor.letterbox(sample.size)
    for body in bodies:
        assert body.keypoints is not None
        assert body.mask is not None
        seen = body.keypoints.visibility > 0
        places = letterbox.apply_points(body.keypoints.positions.astype(np.float64)) / 64
        same = [
            index
            for index, joints in enumerate(keypoints.positions.numpy())
            if np.allclose(joints[seen], places[seen], atol=1e-5)
        ]
        assert len(same) == 1
        share = body.mask.area * (letterbox.scale / 64) ** 2
        assert keypoints.areas[same[0]].item() == pytest.approx(share, rel=1e-5)
    assert sample.depth is not None
    values = depths.values[0].numpy()
    inside = values > 0
    assert set(values[inside].tolist()) <= set(sample.depth.values.flatten().tolist())
    # the image fills the share of the canvas that follows from its aspect ratio
    expected = min(sample.size) / max(sample.size)
    assert inside.mean() == pytest.approx(expected, abs=0.05)


def test_truth_is_absent_where_nothing_asks_for_it() -> None:
    _, processor = tiny_model(more=BODIES)
    (sample,) = people(1)
    without = batch_of(processor, [row_of(processor, sample, boxes_and_masks(sample))])
    assert without.references.truth == {}
    mixed = batch_of(
        processor,
        [
            row_of(processor, sample, boxes_and_masks(sample)),
            row_of(processor, sample, asked(sample)),
        ],
    )
    first = len(without.references.boxes)
    assert int(mixed.references.truth["keypoint"].index.min()) == first


@pytest.mark.parametrize("more", [BODIES, LOCATION, {**BODIES, **LOCATION}, "segmenter"])
def test_every_decoder_learns_and_those_without_truth_stay_tied(more: Any) -> None:
    decoders = segmenter() if more == "segmenter" else more
    kept = {"box": "location", "mask": "segmenter"}
    own = tiny_decoders(*(name for name, other in kept.items() if other not in decoders))
    model, processor = tiny_model(decoders={**own, **decoders})
    (sample,) = people(1)
    parts = [one.part for one in model.config.unit_decoders if one.name in decoders]
    turns = (*asked(sample), *boxes_and_masks(sample))
    for truth, learns in ((turns, True), ((Turn(("Hello?",), GroundedText("Hi.")),), False)):
        model.zero_grad()
        output = run(model.train(), batch_of(processor, [row_of(processor, sample, truth)]))
        output.loss.backward()
        assert torch.isfinite(output.loss)
        for name in parts:
            trained = [p for p in model.get_submodule(name).parameters() if p.requires_grad]
            assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
            sizes = [float(p.grad.abs().sum()) for p in trained if p.grad is not None]
            assert (max(sizes) > 0) == learns, name
            assert (output.parts[name.removesuffix("_decoder")].item() > 0) == learns


def test_order_of_bodies_in_a_group_does_not_change_the_loss() -> None:
    model, processor = tiny_model(more=BODIES)
    samples = [
        scene_sample(draw_scene(3, index, level="hard", split="train", long_side=64))
        for index in (2, 26, 27)
    ]
    batch = batch_of(processor, [row_of(processor, one, asked(one)) for one in samples])
    bodies = batch.references.truth["keypoint"]
    sizes = (batch.references.groups >= 0).sum(1)
    several = batch.references.groups[sizes > 1]
    assert len(several)
    places = {index: place for place, index in enumerate(bodies.index.tolist())}
    order = torch.arange(len(bodies.index))
    for group in several:
        own = torch.tensor([places[index] for index in group[group >= 0].tolist()])
        order[own] = own.flip(0)
    turned = replace(bodies, truth=bodies.truth.take(order))
    truth = {**batch.references.truth, "keypoint": turned}
    other = replace(batch, references=replace(batch.references, truth=truth))
    before, after = run(model, batch), run(model, other)
    assert torch.allclose(before.parts["keypoint"], after.parts["keypoint"], atol=1e-5)


def test_only_references_that_ask_are_decoded_and_none_is_lost() -> None:
    states = torch.arange(12.0).view(2, 3, 2)
    filled = torch.tensor([[True, True, True], [True, True, False]])
    references = LatentReferences(states, filled, filled.long())
    chosen = torch.tensor([[False, True, True], [True, False, False]])
    some, places = pick_references(references, chosen)
    assert torch.equal(some.states[some.filled], states[chosen])
    assert places.tolist() == [[-1, 0, 1], [0, -1, -1]]
    none, _ = pick_references(references, torch.zeros_like(chosen))
    assert len(none) == 0


def test_more_references_than_queries_can_be_about_other_units() -> None:
    model, _ = tiny_model(more={"depth": {**SHAPE, "num_queries": 4}})
    width = model.config.text_config.hidden_size
    filled = torch.ones(1, 9, dtype=torch.bool)
    references = LatentReferences(torch.randn(1, 9, width), filled, filled.long())
    seen = model.see(torch.zeros(1, 3, 64, 64))
    one = torch.zeros_like(filled)
    one[0, 7] = True
    decoded = model.decode(references, seen, wanted={"depth": one})
    assert decoded.units["depth"].places[0, 7] == 0
    with pytest.raises(
        ModelError, match="asks for 9 units of type depth, their decoder has 4 queries"
    ):
        model.decode(references, seen)


@pytest.mark.slow
def test_a_model_learns_bodies_and_depth_and_answers_with_them() -> None:
    """Overfit one drawn scene: losses fall, and answers have units in its frame."""
    model, processor = tiny_model(more=BODIES)
    samples = people(1)
    batch = batch_of(processor, [row_of(processor, one, asked(one)) for one in samples])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    model.train()
    losses: list[dict[str, float]] = []
    for _ in range(75):
        output = run(model, batch)
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append({name: float(part.detach()) for name, part in output.parts.items()})
    assert losses[-1]["language"] < 0.02 * losses[0]["language"]
    # joints are scored once their reference finds the body, so the sum rises before it falls
    assert losses[-1]["keypoint"] < 0.8 * max(one["keypoint"] for one in losses)
    assert losses[-1]["depth"] < 0.5 * losses[0]["depth"]
    model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    predictor = Predictor(model, processor.tokenizer)
    for sample in samples:
        image = sample.image() if callable(sample.image) else sample.image
        for turn in asked(sample):
            answer = predictor.ask(image, turn.question)
            assert turn.answer is not None
            assert answer.text == turn.answer.text
            (phrase,), (true,) = answer.phrases, turn.answer.phrases
            assert len(phrase.references) == len(true.references)
            for reference in phrase.references:
                (unit,) = reference.units
                assert reference.score is not None
                if isinstance(unit, DepthMap):
                    assert unit.size == sample.size
                    (depth,) = true.references[0].units
                    assert isinstance(depth, DepthMap)
                    off = np.abs(np.log(unit.values / depth.values))
                    assert np.median(off) < 0.25
                    continue
                assert isinstance(unit, Keypoints)
                seen = unit.positions[unit.visibility > 0]
                assert len(seen)
                assert (seen >= 0).all()
                assert (seen <= [sample.size.width, sample.size.height]).all()
                far = min(distance(unit, one.units[0]) for one in true.references)
                assert far < 0.15 * max(sample.size)


def distance(found: Keypoints, true: Any) -> float:
    """Return the mean distance of the joints that both bodies have."""
    both = (found.visibility > 0) & (true.visibility > 0)
    return float(np.linalg.norm(found.positions[both] - true.positions[both], axis=1).mean())


def answer_with(model: PointingVLM, processor: Processor, units: str) -> Any:
    """Answer with a random model that is forced to write a reference of the unit types."""
    predictor = Predictor(model, processor.tokenizer)
    image = np.zeros((40, 60, 3), np.uint8)
    question = predictor._question(image, "Where?")
    pieces = split_markers(
        f"<Phrase>it</Phrase>(<Unit>{units}</Unit>[0]<REF>)", processor.notation.spelling
    )
    looked = predictor._look([question], 4, None)[0]
    generated = replace(
        looked.generated,
        references=torch.randn(1, model.config.text_config.hidden_size),
    )
    parsed = processor.notation.decode(pieces, question.size)
    wanted = predictor._wanted([parsed], torch.ones(1, 1, dtype=torch.bool), None)
    references = LatentReferences(
        generated.references[None], torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1).long()
    )
    batch = collate([question.row], pad_id=processor.tokenizer.pad_id, left=True)
    with torch.no_grad():
        seen = model.see(batch.pixel_values, batch.framed_pixels)
        decoded = model.decode(references, seen, wanted=wanted)
    looked = replace(looked, generated=generated, pieces=pieces, parsed=parsed, decoded=decoded)
    return predictor._read(question, looked, None, None)


def test_composite_units_come_back_together_and_unknown_ones_undecoded() -> None:
    model, processor = tiny_model(more=BODIES)
    answer = answer_with(model, processor, "depth,keypoint,heat")
    ((reference,),) = [phrase.references for phrase in answer.phrases]
    depth, body, heat = reference.units
    assert isinstance(depth, DepthMap)
    assert depth.size == ImageSize(40, 60)
    assert isinstance(body, Keypoints)
    assert heat is None
    assert 0 <= reference.score <= 1
    assert [problem.code for problem in answer.problems] == ["unknown_unit"]
    assert "keypoints" in answer.to_coco()[0]


def test_units_without_a_decoder_are_no_error() -> None:
    model, processor = tiny_model()
    answer = answer_with(model, processor, "keypoint,depth")
    ((reference,),) = [phrase.references for phrase in answer.phrases]
    assert reference.units == (None, None)
    assert reference.score is None
    assert not answer.problems


def test_other_decoders_of_boxes_and_masks_answer_with_them() -> None:
    model, processor = tiny_model(
        decoders={**LOCATION, **segmenter()},
        proposals=False,
        tokens_from="encoder",
    )
    with torch.no_grad():
        # corners of a box inside the image for every state
        model.get_parameter("box_decoder.last.weight").zero_()
        model.get_parameter("box_decoder.last.bias").copy_(torch.tensor([0.3, 0.4, 0.6, 0.7]))
    answer = answer_with(model, processor, "box,mask")
    ((reference,),) = [phrase.references for phrase in answer.phrases]
    box, mask = reference.units
    assert isinstance(box, Box)
    assert isinstance(mask, Mask) or answer.problems[0].code == "unit_unsound"
    if isinstance(mask, Mask):
        assert mask.size == ImageSize(40, 60)
    # 60 px make the canvas, 10 of them above the image
    assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx((18, 14, 36, 32), abs=1e-3)


def test_other_units_can_be_asked_for_where_the_model_decodes_them() -> None:
    model, processor = tiny_model(more=BODIES)
    image = np.zeros((40, 60, 3), np.uint8)
    Predictor(model, processor.tokenizer).ask(image, "it", units="keypoint", max_new_tokens=2)
    plain, _ = tiny_model()
    with pytest.raises(PromptError, match=r"\['keypoint'\]: expected some of \['box', 'mask'\]"):
        Predictor(plain, processor.tokenizer).ask(image, "it", units="keypoint")


def test_a_segmenter_keeps_untrained_layers_frozen() -> None:
    model, _ = tiny_model(decoders={**tiny_decoders("box"), **segmenter()})
    set_trainable(model, Stage(name="all", steps=1))
    encoder = model.get_submodule("mask_decoder.segmenter.vision_encoder")
    assert not any(p.requires_grad for p in encoder.parameters())
    assert model.get_parameter("mask_decoder.projector.up.weight").requires_grad


def test_a_saved_model_keeps_its_decoders(tmp_path: Path) -> None:
    for decoders in (BODIES, {**LOCATION, **segmenter()}):
        own = {} if "location" in decoders else tiny_decoders("box", "mask")
        model, _ = tiny_model(decoders={**own, **decoders})
        model.save_pretrained(tmp_path / "model")
        loaded = PointingVLM.from_pretrained(tmp_path / "model")
        assert loaded.config.decoders.keys() == {**own, **decoders}.keys()
        assert loaded.state_dict().keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, loaded.state_dict()[name]), name
        for unit, decoder in loaded.decoders.items():
            assert decoder.unit == unit
        # fields that are not weights must be restored too
        others = dict(loaded.named_buffers())
        assert others.keys() == dict(model.named_buffers()).keys()
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, others[name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": LOCATION}, "decoder 'location': expected one box_decoder, the model already has"),
        ({"more": {"heat": {}}}, "unit decoder 'heat': expected one of"),
        ({"more": {"box": {"colour": 3}}}, "unit decoder 'box': .*unexpected keyword.*'colour'"),
        ({"more": {"depth": {}}}, "one map: expected one width, got .*'depth': 128"),
        ({"decoders": {"segmenter": {"segmenter": "sam"}}}, "expected the configuration of sam"),
    ],
)
def test_decoders_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        tiny_model(**changes)


def test_configurations_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """Earlier versions saved box and mask decoders separately, like the shipped weights."""
    model, _ = tiny_model(more=BODIES)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    decoders = saved.pop("decoders")
    saved |= {f"{unit}_decoder": decoders.pop(unit) for unit in ("box", "mask")}
    (tmp_path / "config.json").write_text(json.dumps({**saved, "decoders": decoders}))
    loaded = PointingVLM.from_pretrained(tmp_path)
    assert loaded.config.decoders == model.config.decoders
    assert loaded.state_dict().keys() == model.state_dict().keys()
    shipped = json.loads((WEIGHTS / "scenes-tiny" / "config.json").read_text())
    assert "decoders" not in shipped
    read = PointingVLMConfig.from_pretrained(WEIGHTS / "scenes-tiny").decoders
    assert read == {unit: shipped[f"{unit}_decoder"] for unit in ("box", "mask")}


def test_decoders_beside_the_others_are_refused() -> None:
    with pytest.raises(
        ModelError, match="box_decoder: expected its fields as an entry of decoders"
    ):
        PointingVLMConfig(box_decoder=SHAPE)


class Unread(DepthDecoder):
    def read_truth(self, batch: Batch) -> None:
        del batch


def test_truth_that_a_decoder_does_not_read_is_an_error() -> None:
    model, processor = tiny_model(more=BODIES)
    batch = batch_of(processor, [row_of(processor, people(1)[0], asked(people(1)[0]))])
    config = DepthConfig(**BODIES["depth"])
    model.depth_decoder = Unread(config, model.config.text_config.hidden_size, 8)
    with pytest.raises(ModelError, match="depth_decoder: expected it to read the truth of units"):
        run(model, batch)
    given = batch.references.truth
    mixed = replace(batch.references, truth={**given, "depth": given["keypoint"]})
    plain, _ = tiny_model(more=BODIES)
    with pytest.raises(ModelError, match="type depth: expected DepthTruth, got KeypointTruth"):
        run(plain, replace(batch, references=mixed))


def test_a_decoder_is_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        unit, capacity, anchored = "depth", None, False

        def __call__(self, *_: object) -> None:
            """Stand for every method."""

        parameters = read_truth = costs = losses = to_unit = __call__

    def build(*_: object) -> Any:
        return Odd()

    kind = replace(DECODERS["depth"], build=build)
    monkeypatch.setitem(DECODERS, "depth", kind)
    with pytest.raises(ModelError, match=r"decoder 'depth': expected a torch\.nn\.Module"):
        tiny_model(more=BODIES)


def test_aligning_needs_region_truth_in_the_batch() -> None:
    model, processor = tiny_model()
    batch = batch_of(processor, [row_of(processor, people(1)[0], asked(people(1)[0]))])
    with pytest.raises(ModelError, match="aligning: expected region_truth in the batch, got None"):
        model.region_truth(batch)
