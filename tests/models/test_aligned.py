"""Aligned models compute the same as those of transformers, and can be trained.

Hidden states and logits are compared on the same ids, pixels and positions, to 1e-5.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from closeness import assert_same_outputs
from released import IMAGE_ID, RELEASED, WORDS, release
from safetensors.torch import load_file, save_file
from tiny import tiny_model
from transformers import DynamicCache, PreTrainedModel

from deixis.batch import Batch
from deixis.data.scenes import draw_scene
from deixis.data.scenes.scene_sample import scene_sample
from deixis.data.tasks import sample_turns
from deixis.errors import CheckpointError, ModelError
from deixis.geometry import ImageSize
from deixis.inference.generation import generate
from deixis.inference.load import load
from deixis.inference.predictor import Predictor
from deixis.models.aligned import read_aligned
from deixis.models.decoders import DecoderConfig
from deixis.models.pointing import PointingVLM
from deixis.processing.batch import collate
from deixis.processing.build import build_processor
from deixis.processing.processor import Processor
from deixis.processing.tokenizer import MarkedTokenizer
from deixis.structures import Conversation, Turn
from deixis.training.aligned import ALIGNED_PARTS, attach_aligned
from deixis.training.loop import set_trainable
from deixis.training.recipe import Stage

KINDS = sorted(RELEASED)
QWEN = [kind for kind in KINDS if kind.startswith("qwen")]
WHOLE = ["llava", *QWEN]
"""Kinds for which transformers makes the same image tokens from the canvas."""

ATOL = 1e-5
DECODER = asdict(DecoderConfig(width=32, heads=2, hidden=48, layers=2, num_queries=24))
NEW: dict[str, Any] = {
    "decoders": {"box": DECODER, "mask": DECODER},
    "pixel_width": 8,
    "proposals": True,
}


def attach(kind: str, folder: Path, **changes: Any) -> tuple[PointingVLM, MarkedTokenizer]:
    size = 64 if kind in QWEN else None
    model, tokenizer = attach_aligned(folder, image_size=size, **{**NEW, **changes})
    model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    return model, tokenizer


def square(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def question_batch(processor: Processor, count: int = 2, *, left: bool = False) -> Batch:
    """Return questions of several lengths, each about an image that fills the canvas."""
    rows = []
    for index in range(count):
        image = square(processor.canvas, index)
        turn = Turn((WORDS[index],))
        size = ImageSize(*image.shape[:2])
        rows.append(processor.row(Conversation("x", image, size, (turn,))))
    return collate(rows, pad_id=processor.tokenizer.pad_id, left=left)


def plain(batch: Batch, tokenizer: MarkedTokenizer) -> Batch:
    """Return the batch with existing tokens in place of role markers."""
    ids = batch.input_ids.clone()
    ids[ids == tokenizer.user_id] = 40
    ids[ids == tokenizer.assistant_id] = 41
    return replace(batch, input_ids=ids)


def library_inputs(kind: str, model: PreTrainedModel, batch: Batch, mean: Any, std: Any) -> Any:
    """Return a batch for the transformers model, made by functions of transformers."""
    config: Any = model.config
    ids = batch.input_ids.clone()
    on_image = (batch.turns == 0) & (ids != ids[:, :1])
    ids[on_image] = IMAGE_ID
    inputs = {"input_ids": ids, "attention_mask": (batch.turns >= 0).long()}
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (mean, std))
    normed = ((batch.pixel_values + 1) / 2 - mean) / std
    if kind not in QWEN:
        return {**inputs, "pixel_values": normed}
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (  # noqa: PLC0415
        Qwen2VLImageProcessorPil,
    )

    vision = config.vision_config
    library = Qwen2VLImageProcessorPil()
    cut = [
        library.patchify(one.numpy(), vision.patch_size, 2, vision.temporal_patch_size)
        for one in normed
    ]
    return {
        **inputs,
        "pixel_values": torch.from_numpy(np.concatenate([patches for patches, _, _ in cut])),
        "image_grid_thw": torch.tensor([[1, rows, columns] for _, rows, columns in cut]),
        "mm_token_type_ids": on_image.int(),
    }


def image_of(model: PointingVLM, batch: Batch) -> torch.Tensor:
    image: torch.Tensor = batch.input_ids == model.config.marker_ids["<image>"]
    return image


def read(model: PointingVLM, batch: Batch) -> torch.Tensor:
    seen = model.see(batch.pixel_values)
    embedded = model.embed(batch.input_ids, seen, batch.regions)
    image = image_of(model, batch)
    positions = model.place(batch.positions, image)
    states: torch.Tensor = model.read(embedded, positions, batch.turns >= 0, seen=seen, image=image)
    return states


@pytest.mark.parametrize("kind", WHOLE)
def test_states_and_logits_equal_those_of_transformers(kind: str, tmp_path: Path) -> None:
    released: Any = release(kind, tmp_path)
    model, tokenizer = attach(kind, tmp_path)
    batch = plain(question_batch(build_processor(model.config, tokenizer)), tokenizer)
    vision: Any = model.config.vision_config
    inputs = library_inputs(kind, released, batch, vision.mean, vision.std)
    with torch.no_grad():
        states = read(model, batch)
        logits = model.language_model.get_output_embeddings()(states)
        wanted = released(**inputs, output_hidden_states=True)
    real = batch.turns >= 0
    known = released.get_input_embeddings().weight.shape[0]
    assert inputs["input_ids"].max() < known
    assert torch.allclose(states[real], wanted.hidden_states[-1][real], atol=ATOL)
    assert torch.allclose(logits[real][:, :300], wanted.logits[real][:, :300], atol=ATOL)
    assert wanted.logits[real].std() > 0.1


@pytest.mark.parametrize("kind", ["llava_next", "llava_onevision"])
def test_tiling_models_give_the_tokens_of_the_whole_image(kind: str, tmp_path: Path) -> None:
    released: Any = release(kind, tmp_path)
    model, _ = attach(kind, tmp_path)
    side = model.config.canvas
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    normed = model.config.vision_config.normalisation.from_signed(pixels)
    tiles = torch.cat([normed, torch.zeros(4, 3, side, side)])[None]
    with torch.no_grad():
        wanted = released.model.get_image_features(
            tiles, image_sizes=torch.tensor([[2 * side, 2 * side]])
        )
        given = model.see(pixels).tokens
        embedded = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(1))
        states = model.language_model(inputs_embeds=embedded).logits
        same = released.lm_head(
            released.model.language_model(inputs_embeds=embedded).last_hidden_state
        )
    assert torch.allclose(given, wanted.pooler_output[0][: model.config.image_tokens], atol=ATOL)
    assert torch.allclose(states[..., :300], same[..., :300], atol=ATOL)


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "qwen3_vl"])
def test_a_cache_and_left_padding_do_not_change_states(kind: str, tmp_path: Path) -> None:
    release(kind, tmp_path)
    model, tokenizer = attach(kind, tmp_path)
    processor = build_processor(model.config, tokenizer)
    right, left = (question_batch(processor, 3, left=side) for side in (False, True))
    with torch.no_grad():
        whole, padded = read(model, right), read(model, left)
        seen = model.see(left.pixel_values)
        embedded = model.embed(left.input_ids, seen, left.regions)
        image = image_of(model, left)
        positions = model.place(left.positions, image)
        cache = DynamicCache(config=model.config.text_config)
        cut = embedded.shape[1] - 3
        pieces = [
            model.read(
                embedded[:, part],
                positions[..., part],
                (left.turns >= 0)[:, : part.stop],
                cache=cache,
                seen=seen,
                image=image[:, part],
            )
            for part in (slice(0, cut), slice(cut, cut + 1), slice(cut + 1, cut + 3))
        ]
    for row in range(3):
        real, same = right.turns[row] >= 0, left.turns[row] >= 0
        assert torch.allclose(whole[row][real], padded[row][same], atol=ATOL)
        stepped = torch.cat(pieces, dim=1)[row][same]
        assert torch.allclose(whole[row][real], stepped, atol=ATOL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_and_loaded_model_gives_the_same_answers(kind: str, tmp_path: Path) -> None:
    release(kind, tmp_path / "released")
    model, tokenizer = attach(kind, tmp_path / "released")
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save(tmp_path / "saved")
    again = load(tmp_path / "saved", device="cpu")
    assert again.model.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert again.processor.tokenizer.begin_id == tokenizer.begin_id
    batch = question_batch(build_processor(model.config, tokenizer))
    same = question_batch(again.processor)
    assert torch.equal(batch.input_ids, same.input_ids)
    with torch.no_grad():
        assert_same_outputs(read(model, batch), read(again.model, same))
    asked = (square(50), "Where is the red circle?")
    first = Predictor(model, tokenizer).ask(*asked, max_new_tokens=4)
    assert again.ask(*asked, max_new_tokens=4).raw == first.raw


def scene_batch(processor: Processor) -> Batch:
    rows = []
    for index in range(3):
        sample = scene_sample(draw_scene(3, index, level="standard", split="train", long_side=64))
        turns = sample_turns(sample, np.random.default_rng(index), count=5)
        spoken = Conversation(sample.id, sample.image, sample.size, turns, independent=True)
        rows.append(processor.row(spoken, instances=sample.instances))
    return collate(rows, pad_id=processor.tokenizer.pad_id)


@pytest.mark.parametrize("kind", ["llava", "qwen3_vl"])
def test_new_parts_train_and_released_ones_are_frozen(kind: str, tmp_path: Path) -> None:
    release(kind, tmp_path)
    model, tokenizer = attach(kind, tmp_path, concepts=["circle"])
    batch = scene_batch(build_processor(model.config, tokenizer))
    assert len(batch.regions)
    model.train()
    output = model(batch)
    output.loss.backward()
    for name, part in model.named_children():
        gradients = [weight.grad for weight in part.parameters()]
        if name in ALIGNED_PARTS:
            assert all(each is None for each in gradients), name
        else:
            assert any(each is not None and each.abs().sum() > 0 for each in gradients), name


def test_released_weights_may_be_in_half_precision_under_autocast(tmp_path: Path) -> None:
    release("qwen3_vl", tmp_path)
    model, tokenizer = attach("qwen3_vl", tmp_path, dtype=torch.bfloat16)
    kinds = {
        name: next(iter(part.parameters())).dtype
        for name, part in model.named_children()
        if list(part.parameters())
    }
    assert kinds["language_model"] == kinds["vision_encoder"] == torch.bfloat16
    assert kinds["box_decoder"] == kinds["region_encoder"] == torch.float32
    batch = scene_batch(build_processor(model.config, tokenizer))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch)
    output.loss.backward()
    assert torch.isfinite(output.loss)


def test_a_stage_can_train_released_parts(tmp_path: Path) -> None:
    release("qwen3_vl", tmp_path)
    model, tokenizer = attach("qwen3_vl", tmp_path)
    parts = ("vision_encoder", "language_model", "region_encoder")
    set_trainable(model, Stage(name="all", steps=1, trainable=parts))
    batch = scene_batch(build_processor(model.config, tokenizer))
    model(batch).loss.backward()
    vision: Any = model.vision_encoder
    # features for the first layers have their own merger, which gets gradients through them only
    for merger in vision.model.deepstack_merger_list:
        assert merger.linear_fc2.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl"])
def test_markers_are_new_rows_and_existing_rows_are_unchanged(kind: str, tmp_path: Path) -> None:
    released: Any = release(kind, tmp_path)
    model, tokenizer = attach(kind, tmp_path)
    old = released.get_input_embeddings().weight
    language: Any = model.language_model
    new, head = language.get_input_embeddings().weight, language.get_output_embeddings().weight
    known = 300
    assert (
        len(new) == max(len(old), len(tokenizer.tokenizer)) == model.config.text_config.vocab_size
    )
    assert torch.equal(new[:known], old[:known])
    assert torch.equal(head[:known], released.lm_head.weight[:known])
    assert (new is head) == released.config.tie_word_embeddings
    for row in tokenizer.marker_ids.values():
        if row >= known:
            spread = old[:known].std(0)
            assert ((new[row] - old[:known].mean(0)).abs() < spread).all()
    before = "<|vision_start|>" if kind in QWEN else "<s>"
    assert tokenizer.begin_id == tokenizer.tokenizer.get_vocab()[before] < known
    assert tokenizer.end_id == 1


def test_a_model_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "blip-2"}')
    with pytest.raises(ModelError, match=r"of type 'blip-2': expected one of \['llava'"):
        attach_aligned(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        attach_aligned(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors, key: tensors.pop(key), "1 missing_keys: {key}"),
        (lambda tensors, key: tensors.update(more=tensors[key].clone()), "1 unexpected_keys: more"),
        (lambda tensors, key: tensors.update({key: tensors[key][:1].clone()}), "{key}|mismatch"),
    ],
    ids=["missing", "unexpected", "of another shape"],
)
@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("llava", "model.multi_modal_projector.linear_2.weight"),
        ("qwen3_vl", "model.visual.deepstack_merger_list.1.linear_fc1.weight"),
    ],
)
def test_a_key_that_does_not_fit_is_named(
    kind: str,
    key: str,
    change: Callable[[dict[str, torch.Tensor], str], Any],
    told: str,
    tmp_path: Path,
) -> None:
    release(kind, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    stored = next(name for name in tensors if name.endswith(key.removeprefix("model.")))
    change(tensors, stored)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=told.format(key=key)):
        attach_aligned(tmp_path, image_size=64 if kind in QWEN else None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vision_feature_layer": [-2, -1]}, r"vision_feature_layer \[-2, -1\]: expected a single"),
        (
            {
                "vision_config": RELEASED["llava_onevision"]["vision_config"],
                "vision_feature_select_strategy": "default",
            },
            "siglip_vision_model read by vision_feature_select_strategy 'default'",
        ),
    ],
    ids=["layers", "no class token"],
)
def test_an_encoder_with_unsupported_features_is_refused(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    release("llava", tmp_path, **changes)
    with pytest.raises(ModelError, match=told):
        read_aligned(tmp_path)


def test_another_layer_class_token_and_projector_are_kept(tmp_path: Path) -> None:
    shape: dict[str, Any] = {
        "multimodal_projector_bias": False,
        "projector_hidden_act": "gelu_pytorch_tanh",
    }
    reading: dict[str, Any] = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    released: Any = release("llava", tmp_path, **shape, **reading)
    model, _ = attach("llava", tmp_path)
    assert model.config.image_tokens == 17
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    normed = model.config.vision_config.normalisation.from_signed(pixels)
    with torch.no_grad():
        wanted = released.model.get_image_features(normed).pooler_output[0]
        assert torch.allclose(model.see(pixels).tokens, wanted, atol=ATOL)


@pytest.mark.parametrize("kind", ["llava", "qwen3_vl"])
def test_generation_is_equal_with_and_without_a_cache(kind: str, tmp_path: Path) -> None:
    release(kind, tmp_path)
    model, tokenizer = attach(kind, tmp_path)
    batch = question_batch(build_processor(model.config, tokenizer), 3, left=True)
    one, other = (
        generate(model, batch, end_id=tokenizer.end_id, max_new_tokens=6, cached=cached)[0]
        for cached in (True, False)
    )
    assert [each.ids for each in one] == [each.ids for each in other]
    assert any(len(each.ids) == 6 for each in one)


def test_a_language_model_that_adds_features_needs_seen_and_image(tmp_path: Path) -> None:
    release("qwen3_vl", tmp_path)
    model, tokenizer = attach("qwen3_vl", tmp_path)
    batch = question_batch(build_processor(model.config, tokenizer))
    seen = model.see(batch.pixel_values)
    embedded = model.embed(batch.input_ids, seen, batch.regions)
    with pytest.raises(ModelError, match="on a grid: expected positions from `place`"):
        model.read(embedded, batch.positions, batch.turns >= 0, seen=seen)
    positions = model.place(batch.positions, image_of(model, batch))
    with pytest.raises(
        ModelError, match="features after the first layers: expected seen and image"
    ):
        model.read(embedded, positions, batch.turns >= 0, seen=seen)


@pytest.mark.parametrize(
    "changes",
    [{"projector": {"bias": False}}, {"projector": {"depth": 3}, "tokens_from": "encoder"}],
    ids=["no projector", "unknown field"],
)
def test_invalid_projectors_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="projector"):
        tiny_model(**{"tokens_from": "cells", **changes})
