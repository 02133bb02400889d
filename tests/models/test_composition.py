"""Parts of the four systems put together by configuration: one model, whatever it is made of."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from closeness import assert_same_outputs
from encoders import small_config
from region_batches import TEXT_ENCODERS
from scripted import script
from tiny import tiny_model, tiny_tokenizer

from deixis.batch import Batch
from deixis.data.scenes import draw_scene, scene_sample
from deixis.errors import ImageError, ModelError, NotationError, PromptError
from deixis.geometry import Box, ImageSize, Mask, Point, Scribble
from deixis.inference import Predictor, load
from deixis.models.pointing import PointingOutput, PointingVLM, training_attention
from deixis.models.regions import (
    ConnectorConfig,
    CoordinateRegionConfig,
    MaskRegionConfig,
    RegionEncodersConfig,
)
from deixis.models.vision.pretrained import vision_config
from deixis.models.vision.pyramid import PyramidConfig
from deixis.models.vision.video import VIDEO_PRESETS
from deixis.notation import Marker
from deixis.processing.batch import Row, collate
from deixis.processing.build import build_processor
from deixis.processing.processor import Processor
from deixis.structures import (
    Conversation,
    Description,
    GroundedPhrase,
    GroundedText,
    Reference,
    Sample,
    Turn,
    UnitGroup,
    Video,
)

BERT = {**TEXT_ENCODERS["bert"], "vocab_size": 400, "max_position_embeddings": 64}
TAMP = RegionEncodersConfig(
    {"task": ConnectorConfig(width=16, num_region_tokens=2, text_encoder=BERT)},
    {"text": "task", "box": "task"},
)
MIX = RegionEncodersConfig(
    {
        "task": ConnectorConfig(width=16, text_encoder=BERT),
        "masks": MaskRegionConfig(4, source="tokens", places=False, projector="image"),
        "numbers": CoordinateRegionConfig(marks=True),
    },
    {"text": "task", "box": "task", "mask": "masks", "scribble": "masks", "point": "numbers"},
)


def scene(index: int = 0) -> Sample:
    return scene_sample(draw_scene(3, index, level="plain", split="train", long_side=64))


def answer_about(sample: Sample, *units: str) -> GroundedText:
    """It is there: one phrase that points at the first thing."""
    instance = sample.instances[0]
    kinds = {"box": instance.box, "mask": instance.mask}
    group = UnitGroup(units, (Reference(tuple(kinds[unit] for unit in units)),))
    return GroundedText("The thing.", (GroundedPhrase("thing", 4, 9, (group,)),))


def row_of(processor: Processor, sample: Sample, *turns: Turn, independent: bool = True) -> Row:
    conversation = Conversation(sample.id, sample.image, sample.size, turns, independent)
    return processor.row(conversation, instances=sample.instances)


def batch_of(processor: Processor, *rows: Row, left: bool = False) -> Batch:
    return collate(rows, pad_id=processor.tokenizer.pad_id, left=left)


def run(model: PointingVLM, batch: Batch) -> PointingOutput:
    output: PointingOutput = model(batch)
    return output


BY_HEART = 0.05
"""A loss of language at which the likeliest tokens are those of the answer."""


def learn(model: PointingVLM, batch: Batch, *, steps: int, lr: float = 3e-3) -> PointingOutput:
    """Train until the model knows the answers by heart, for at most ``steps`` steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    model.train()
    output = run(model, batch)
    for _ in range(steps):
        output = run(model, batch)
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if output.parts["language"] < BY_HEART:
            break
    model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    return output


def texts_of(processor: Processor, row: Row) -> str:
    """A row as its tokens are spelled."""
    tokens = processor.tokenizer.tokenizer.convert_ids_to_tokens(row.input_ids.tolist())
    return "".join(tokens).replace("Ġ", " ")


# ------------------------------------------------------------------------------------- regions


def test_regions_appear_in_a_question_as_their_encoders_need() -> None:
    _, processor = tiny_model(tokens_from="encoder", regions=MIX.to_json())
    sample = scene()
    question = (
        "Is ",
        Description("the red <region>"),
        " in ",
        Box(0, 0, 32, 20),
        " or ",
        Point(10, 10),
        " or ",
        Scribble(((4.0, 4.0), (20.0, 9.0)), 3.0),
        "?",
    )
    row = row_of(processor, sample, Turn(question))
    text = texts_of(processor, row)
    # a marker that a person typed stays what was typed
    assert "<ref>the red <region></ref><region>" in text
    assert "<loc>[" in text
    assert text.count("</loc><region>") == 1
    places = row.input_ids == processor.tokenizer.marker_ids[Marker.REGION]
    assert places.sum() == 1 + 1 + 4
    assert len(row.regions) == 3
    assert len(row.region_texts[0])
    assert row.region_boxes[1].max() <= 1


def test_a_description_is_plain_text_without_an_encoder() -> None:
    _, processor = tiny_model()
    sample = scene()
    plain = row_of(processor, sample, Turn(("Find the red circle.",)))
    described = row_of(processor, sample, Turn(("Find ", Description("the red circle"), ".")))
    assert texts_of(processor, plain) == texts_of(processor, described)
    assert not len(described.regions)


def test_several_region_encoders_train_and_are_saved(tmp_path: Path) -> None:
    model, processor = tiny_model(tokens_from="encoder", regions=MIX.to_json())
    sample = scene()
    box, mask = sample.instances[0].box, sample.instances[0].mask
    assert mask is not None
    turns = (
        Turn(("What is ", box, "?"), GroundedText("A circle.")),
        Turn(("What is ", mask, "?"), GroundedText("A circle.")),
        Turn(("Find ", Description("the circle")), answer_about(sample, "box")),
        Turn(("What is at ", Point(*box.center), "?"), GroundedText("A circle.")),
    )
    batch = batch_of(processor, row_of(processor, sample, *turns), row_of(processor, sample))
    output = run(model, batch)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    encoders = dict(model.region_encoder.named_parameters())
    moved = {
        name.split(".")[1] for name, p in encoders.items() if p.grad is not None and p.grad.any()
    }
    # masks share the projector of the image and have no weights of their own
    assert moved == {"task"}
    model.save_pretrained(tmp_path)
    processor.save(tmp_path)
    again = load(tmp_path, device="cpu").model
    with torch.no_grad():
        for part, value in run(model, batch).parts.items():
            assert_same_outputs(run(again, batch).parts[part], value, part)


def test_rows_without_regions_keep_every_weight_in_the_backward_pass() -> None:
    model, processor = tiny_model(tokens_from="encoder", regions=MIX.to_json())
    batch = batch_of(processor, row_of(processor, scene(), Turn(("Hm?",), GroundedText("Yes."))))
    run(model, batch).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    given = [p.grad for p in model.region_encoder.parameters() if p.grad is not None]
    assert not any(bool(grad.any()) for grad in given)


def test_the_connector_distinguishes_descriptions_by_their_text() -> None:
    """By heart: the words stand only in front of the connector's tokens in different ways."""
    model, processor = tiny_model(tokens_from="encoder", regions=TAMP.to_json())
    sample = scene()
    turns = (
        Turn((Description("one"),), GroundedText("Left.")),
        Turn((Description("two"),), GroundedText("Right.")),
    )
    batch = batch_of(processor, row_of(processor, sample, *turns))
    learn(model, batch, steps=60)
    predictor = Predictor(model, processor.tokenizer)
    image = sample.image() if callable(sample.image) else sample.image
    assert predictor.ask(image, [Description("one")]).text == "Left."
    assert predictor.ask(image, [Description("two")]).text == "Right."


def test_a_type_of_region_without_an_encoder_is_refused() -> None:
    _, processor = tiny_model(tokens_from="encoder", regions=TAMP.to_json())
    with pytest.raises(PromptError, match=r"takes no regions of type point; .*\['box'\]"):
        row_of(processor, scene(), Turn((Point(1, 1),)))


# ----------------------------------------------------------------------------------- notations


def test_boxes_as_text_are_trained_and_parsed() -> None:
    """Pink: no decoder takes part, a box is a sentence."""
    model, processor = tiny_model(
        notation="coordinates",
        decoders={},
        proposals=False,
        tokens_from="encoder",
        region_tokens=1,
        projector={"layers": 1, "bias": False},
    )
    sample = scene()
    assert model.config.reference_ids == ()
    turn = Turn(("Where is it?",), answer_about(sample, "box", "mask"))
    batch = batch_of(processor, row_of(processor, sample, turn))
    output = learn(model, batch, steps=80)
    assert output.parts.keys() == {"concept", "language"}
    image = sample.image() if callable(sample.image) else sample.image
    answer = Predictor(model, processor.tokenizer).ask(image, "Where is it?")
    (phrase,) = answer.phrases
    (found,) = phrase.boxes
    true = sample.instances[0].box
    assert np.allclose(found.as_array(), true.as_array(), atol=0.002 * max(sample.size))
    assert not answer.problems


def test_location_and_segmentation_tokens_are_decoded_separately() -> None:
    """u-LLaVA: a box from `<LOC>`, a mask from `<SEG>`, both of one reference."""
    model, processor = tiny_model(notation="tokens")
    sample = scene()
    turn = Turn(("Where is it?",), answer_about(sample, "box", "mask"))
    row = row_of(processor, sample, turn)
    # a token of its own for each, which are never matched with one another
    assert row.has_box.tolist() == [True, False]
    assert row.has_mask.tolist() == [False, True]
    assert row.groups == ((0,), (1,))
    # so that the mask is not empty; words take longer to learn
    learn(model, batch_of(processor, row), steps=15)
    image = sample.image() if callable(sample.image) else sample.image
    script(model, processor, Conversation("q", image, sample.size, (turn,)))
    answer = Predictor(model, processor.tokenizer).ask(image, "Where is it?")
    assert answer.raw.count("<LOC>") == answer.raw.count("<SEG>") == 1
    (reference,) = answer.phrases[0].references
    box, mask = reference.units
    assert isinstance(box, Box)
    assert isinstance(mask, Mask)
    assert reference.score is not None


def test_a_plan_precedes_the_answer() -> None:
    _, processor = tiny_model(notation="triplets_plan")
    turn = Turn(("Where?",), answer_about(scene(), "box"))
    assert "<Task>" in texts_of(processor, row_of(processor, scene(), turn))


def test_an_unknown_notation_is_refused() -> None:
    with pytest.raises(NotationError, match="unknown notation 'braille'"):
        tiny_model(notation="braille")


# -------------------------------------------------------------------------------------- videos


def clip(frames: int, *, seed: int = 0) -> Video:
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 40, 60, 3), np.uint8)
    return Video(lambda: pixels)


def video_model(preset: str = "paper", **changes: Any) -> tuple[PointingVLM, Processor]:
    video = asdict(VIDEO_PRESETS[preset])
    return tiny_model(tokens_from="encoder", video=video, **changes)


def video_row(processor: Processor, video: Video, *questions: str, answer: str = "Yes.") -> Row:
    turns = tuple(Turn((question,), GroundedText(answer)) for question in questions)
    return processor.row(Conversation("v", video, ImageSize(40, 60), turns))


@pytest.mark.parametrize("frames", [1, 8, 20])
def test_a_video_has_a_token_per_frame_and_those_of_an_image(frames: int) -> None:
    model, processor = video_model()
    row = video_row(processor, clip(frames), "What happens?")
    assert row.frames == len(row.pixels) == 8
    image = processor.tokenizer.marker_ids[Marker.IMAGE]
    assert (row.input_ids == image).sum() == 8 + model.config.image_tokens


def test_a_video_stands_before_or_after_the_first_question() -> None:
    for preset, first in (("paper", True), ("code", False)):
        _, processor = video_model(preset)
        row = video_row(processor, clip(2), "What happens?", "And then?")
        places = np.flatnonzero(row.input_ids == processor.tokenizer.marker_ids[Marker.IMAGE])
        asked = np.flatnonzero(row.input_ids == processor.tokenizer.user_id)
        answered = np.flatnonzero(row.input_ids == processor.tokenizer.assistant_id)
        assert (places < asked[0]).all() == first
        assert (places < answered[0]).all()
        assert (row.turns[places] == (0 if first else 1)).all()


def test_images_and_videos_in_a_batch_are_independent() -> None:
    model, processor = video_model()
    sample = scene()
    rows = [
        video_row(processor, clip(5), "What happens?"),
        row_of(processor, sample, Turn(("Where?",), answer_about(sample, "box"))),
        video_row(processor, clip(2, seed=1), "Who is it?", answer="Nobody."),
    ]
    with torch.no_grad():
        together = hidden_of(model, batch_of(processor, *rows))
        for index, row in enumerate(rows):
            alone = hidden_of(model, batch_of(processor, row))[0]
            torch.testing.assert_close(together[index, : len(alone)], alone, atol=1e-5, rtol=1e-4)
    output = run(model, batch_of(processor, *rows))
    output.loss.backward()
    assert torch.isfinite(output.loss)


def hidden_of(model: PointingVLM, batch: Batch) -> torch.Tensor:
    seen = model.see(batch.pixel_values, batch.framed_pixels, batch.frames)
    fed = model.embed(batch.input_ids, seen, batch.regions)
    return model.read(fed, batch.positions, training_attention(batch.turns, batch.independent))


def test_a_video_is_answered() -> None:
    model, processor = video_model("code")
    row = video_row(processor, clip(3), "What happens?", answer="Not much.")
    learn(model, batch_of(processor, row), steps=60)
    predictor = Predictor(model, processor.tokenizer)
    assert predictor.ask(clip(3), "What happens?").text == "Not much."


def test_videos_are_refused_by_models_for_images() -> None:
    _, processor = tiny_model()
    with pytest.raises(ImageError, match="about a video, which this model does not take"):
        video_row(processor, clip(2), "What happens?")
    with pytest.raises(ModelError, match="videos: expected tokens_from encoder, got objects"):
        tiny_model(video=asdict(VIDEO_PRESETS["paper"]))
    _, late = video_model("code")
    turns = tuple(Turn((text,), GroundedText("Yes.")) for text in ("One?", "Two?"))
    with pytest.raises(PromptError, match="places a video after the first"):
        late.row(Conversation("v", clip(2), ImageSize(40, 60), turns, independent=True))


# ----------------------------------------------------------------------- encoders and decoders


def pretrained(kind: str, **choices: Any) -> dict[str, Any]:
    return {"kind": "pretrained", **asdict(vision_config(small_config(kind), **choices))}


def pyramid() -> dict[str, Any]:
    vit = vision_config(small_config("clip_vision_model"), image_size=64)
    convolution = vision_config(small_config("convnext"), image_size=64, layer=-1)
    return {"kind": "pyramid", **PyramidConfig(vit, convolution).to_dict()}


@pytest.mark.parametrize(
    "vision",
    [
        pretrained("clip_vision_model", image_size=64),
        pretrained("siglip2_vision_model", image_size=64),
        pretrained("dinov3_vit", image_size=64, layer="last"),
        pretrained("convnext", image_size=64, layer=-1),
        pyramid(),
    ],
    ids=["clip", "siglip2", "dinov3", "convnext", "pyramid"],
)
@pytest.mark.parametrize(
    "pixel_decoder", [None, {"width": 16, "groups": 4}], ids=["ours", "maskformer"]
)
def test_encoders_of_the_hub_work_in_the_whole_model(
    vision: dict[str, Any], pixel_decoder: dict[str, Any] | None, tmp_path: Path
) -> None:
    model, processor = tiny_model(vision=vision, tokens_from="encoder", pixel_decoder=pixel_decoder)
    sample = scene()
    turns = (
        Turn(("Where?",), answer_about(sample, "box", "mask")),
        Turn(("What is ", sample.instances[0].box, "?"), GroundedText("It.")),
    )
    batch = batch_of(processor, row_of(processor, sample, *turns))
    output = run(model, batch)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    image = sample.image() if callable(sample.image) else sample.image
    assert Predictor(model, processor.tokenizer).ask(image, "Where?") is not None
    model.save_pretrained(tmp_path)
    processor.save(tmp_path)
    again = load(tmp_path, device="cpu").model
    with torch.no_grad():
        assert_same_outputs(run(again, batch).loss, run(model, batch).loss)


def test_a_processor_fits_every_configuration() -> None:
    vision = pretrained("clip_vision_model", image_size=64)
    model, _ = tiny_model(vision=vision, tokens_from="encoder")
    processor = build_processor(model.config, tiny_tokenizer())
    assert processor.canvas == 64
    assert processor.image_tokens == 64
    # the colour around an image is the encoder's mean
    assert processor.fill == (123, 117, 104)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision": {"kind": "eye"}}, "vision encoder of kind 'eye'"),
        (
            {"vision": {"kind": "pretrained", "image_size": 64}},
            "vision encoder of kind 'pretrained'",
        ),
        ({"projector": {"layers": 1}}, "expected none, image tokens of this model do not pass it"),
        ({"tokens_from": "encoder", "video": {"order": "sideways"}}, "order 'sideways'"),
        ({"regions": {"encoders": {"a": {"kind": "nose"}}}}, "kind 'nose'"),
    ],
)
def test_invalid_configurations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        tiny_model(**changes)
