"""Recipes with a pretrained language model or vision encoder."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from closeness import assert_same_outputs
from encoders import small_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from languages import KINDS, language_folder
from tiny import tiny_choice, tiny_recipe
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, CLIPVisionModel

from deixis.batch import Batch, Regions
from deixis.errors import CheckpointError, ModelError, RecipeError
from deixis.inference import load
from deixis.models.pointing import PointingVLM, training_attention
from deixis.notation import Marker
from deixis.processing.batch import collate
from deixis.processing.processor import Processor
from deixis.processing.tokenizer import (
    ASSISTANT,
    USER,
    MarkedTokenizer,
    add_markers,
    read_tokenizer,
)
from deixis.recipes import apply_overrides
from deixis.structures import Conversation, GroundedText, Turn
from deixis.training import EncoderChoice, ModelChoice, Stage, TrainRecipe, train
from deixis.training.build import build_model

FORGERIES = [
    *(marker.value for marker in Marker),
    *(USER, ASSISTANT, "<pad>", "<s>", "</s>", "<unk>"),
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "<extra_id_0>"),
]
WORDS = "Where is the red circle on the left?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("languages")
    return {kind: language_folder(kind, root / kind) for kind in KINDS}


def recipe_with(folder: Path, **changes: Any) -> TrainRecipe:
    return tiny_recipe(model=replace(tiny_choice(), language=str(folder), **changes))


def built(folder: Path, **changes: Any) -> tuple[PointingVLM, Processor]:
    torch.manual_seed(0)
    model, processor = build_model(recipe_with(folder, **changes))
    model.train(mode=False)
    return model, processor


def text_batch(processor: Processor, *turns: Turn) -> Batch:
    row = processor.row(Conversation("words", None, None, turns or (Turn((WORDS,)),)))
    return collate([row], pad_id=processor.tokenizer.pad_id)


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_image_the_composite_equals_the_language_model_bit_for_bit(
    folders: dict[str, Path], kind: str
) -> None:
    model, processor = built(folders[kind])
    bare = AutoModelForCausalLM.from_pretrained(folders[kind], dtype=torch.float32)
    bare.train(mode=False)
    ids = torch.tensor([processor.tokenizer.encode_text(WORDS)])
    own = AutoTokenizer.from_pretrained(folders[kind])
    assert ids[0].tolist() == own.encode(WORDS, add_special_tokens=False)
    positions = torch.arange(ids.shape[1])[None]
    with torch.no_grad():
        wanted = bare(ids, output_hidden_states=True)
        seen = model.see(torch.zeros(1, 3, 64, 64))
        nothing = Regions.drawn(torch.zeros(0, 32, 32), torch.zeros(0, dtype=torch.long))
        embeddings = model.embed(ids, seen, nothing)
        for mask in (
            torch.ones_like(ids, dtype=torch.bool),
            training_attention(torch.ones_like(ids), torch.tensor([False])),
        ):
            hidden = model.read(embeddings, positions, mask)
            assert_same_outputs(hidden, wanted.hidden_states[-1])
            logits = model.language_model.get_output_embeddings()(hidden)
            assert_same_outputs(logits[..., : len(own)], wanted.logits[..., : len(own)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_without_an_image_uses_text_alone(
    folders: dict[str, Path], kind: str
) -> None:
    model, processor = built(folders[kind])
    turn = Turn((WORDS,), GroundedText("There is none."))
    batch = text_batch(processor, turn)
    tokenizer = processor.tokenizer
    assert tokenizer.marker_ids[Marker.IMAGE] not in batch.input_ids
    first = [] if tokenizer.begin_id is None else [tokenizer.begin_id]
    question = [*first, tokenizer.user_id, *tokenizer.encode_text(WORDS), tokenizer.assistant_id]
    assert batch.input_ids[0, : len(question)].tolist() == question
    with torch.no_grad():
        canvases = [batch.pixel_values, torch.randn_like(batch.pixel_values)]
        logits = []
        for canvas in canvases:
            fed = model.embed(batch.input_ids, model.see(canvas), batch.regions)
            logits.append(model.read(fed, batch.positions, batch.turns >= 0))
        bare = model.language_model.get_decoder()(batch.input_ids).last_hidden_state
    assert_same_outputs(logits[0], logits[1])
    assert_same_outputs(logits[0], bare)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=40))
def test_text_survives_every_tokenizer(folders: dict[str, Path], kind: str, text: str) -> None:
    tokenizer = add_markers(read_tokenizer(folders[kind]))
    ids = tokenizer.encode_text(text)
    assert "".join(tokenizer.decode_pieces(ids)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_text_never_encodes_to_marker_or_chat_tokens(folders: dict[str, Path], kind: str) -> None:
    tokenizer = add_markers(read_tokenizer(folders[kind]))
    control = set(tokenizer.tokenizer.get_added_vocab().values())
    for forged in FORGERIES:
        for around in ("{}", "a {} b", "{0}{0}", "<{}>", "see{}."):
            text = around.format(forged)
            ids = tokenizer.encode_text(text)
            assert not control.intersection(ids), text
            assert "".join(tokenizer.decode_pieces(ids)) == text
    pieces = ["The ", Marker.PHRASE_OPEN, "<REF> sign", Marker.PHRASE_CLOSE, Marker.REFERENCE, " ."]
    assert tokenizer.decode_pieces(tokenizer.encode_pieces(pieces)) == pieces


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_with_markers_round_trips_through_files(
    folders: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    tokenizer = add_markers(read_tokenizer(folders[kind]))
    tokenizer.save(tmp_path)
    again = MarkedTokenizer.load(tmp_path)
    for text in (WORDS, "  two  blanks\n", "Ünï 漢 <REF> <|im_start|> </s>", *FORGERIES):
        assert again.encode_text(text) == tokenizer.encode_text(text)
    for name in ("marker_ids", "pad_id", "begin_id", "end_id", "user_id", "assistant_id"):
        assert getattr(again, name) == getattr(tokenizer, name), name
    assert len(again) == len(tokenizer)


def test_missing_tokens_are_added_and_existing_ones_kept(folders: dict[str, Path]) -> None:
    llama, qwen = (add_markers(read_tokenizer(folders[kind])) for kind in ("llama", "qwen2"))
    assert llama.tokenizer.pad_token == "<pad>"
    assert (llama.tokenizer.bos_token, llama.begin_id) == ("<s>", 1)
    assert qwen.tokenizer.pad_token == "<|endoftext|>"
    assert qwen.begin_id is None
    assert qwen.tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_of_new_tokens_are_near_the_mean_embedding(
    folders: dict[str, Path], kind: str
) -> None:
    model, processor = built(folders[kind])
    bare = AutoModelForCausalLM.from_pretrained(folders[kind], dtype=torch.float32)
    known = len(AutoTokenizer.from_pretrained(folders[kind]))
    new = sorted({*processor.tokenizer.marker_ids.values(), processor.tokenizer.user_id})
    assert min(new) >= known
    for name in ("get_input_embeddings", "get_output_embeddings"):
        rows = getattr(model.language_model, name)().weight.detach()
        old = getattr(bare, name)().weight.detach()[:known]
        assert torch.equal(rows[:known], old)
        away = (rows[new] - old.mean(0)) / old.std(0, correction=0)
        assert away.std().item() == pytest.approx(0.1, rel=0.15)
        assert len(torch.unique(rows[new], dim=0)) == len(new)
    rows = model.language_model.get_input_embeddings().get_parameter("weight")
    assert len(rows) >= len(processor.tokenizer)
    text = model.config.text_config
    assert text.vocab_size == len(rows)
    tokenizer = processor.tokenizer
    assert (text.pad_token_id, text.bos_token_id) == (tokenizer.pad_id, tokenizer.begin_id)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_a_pretrained_language_model_trains_and_is_saved_whole(
    folders: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    data = tiny_recipe().stages[0].data
    stages = (
        Stage("align", 2, ("projector",), 2, data),
        Stage("tune", 2, ("projector",), 2, data, tuning=(("language_model", "lora+adapters"),)),
    )
    folder = tmp_path / "language"
    _copied(folders[kind], folder)
    model = train(replace(recipe_with(folder), stages=stages), tmp_path / "run")
    _copied(folder, tmp_path / "moved", move=True)
    loaded = load(tmp_path / "run")
    state = loaded.model.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.to(torch.bfloat16).float(), state[name]), name
    assert loaded.model.config.tuning.keys() == {"language_model"}
    bare = AutoModelForCausalLM.from_pretrained(tmp_path / "moved", dtype=torch.float32)
    for name, tensor in bare.model.layers.state_dict().items():
        at = name.replace("q_proj.", "q_proj.base_layer.").replace("v_proj.", "v_proj.base_layer.")
        kept = model.language_model.get_decoder().layers.state_dict()[at]
        assert torch.equal(kept, tensor), name


def _copied(folder: Path, target: Path, *, move: bool = False) -> None:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
        if move:
            path.unlink()


@pytest.fixture
def any_precision() -> Iterator[None]:
    """Accelerate keeps one precision per process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
@pytest.mark.usefixtures("any_precision")
def test_parts_read_in_half_precision_train_in_float32(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    data = tiny_recipe().stages[0].data
    choice = replace(tiny_choice(), language=str(folders["qwen3"]), load_in="bfloat16")
    stages = (
        Stage("tune", 2, ("projector",), 2, data, tuning=(("language_model", "lora+adapters"),)),
        Stage("full", 1, ("language_model",), 2, data),
    )
    recipe = tiny_recipe(model=choice, stages=stages[:1], precision="bfloat16")
    model = train(recipe, tmp_path / "run")
    kinds = {
        (".lora_" in name or ".adapter." in name, parameter.dtype)
        for name, parameter in model.language_model.named_parameters()
    }
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    assert {p.dtype for p in load(tmp_path / "run").model.parameters()} == {torch.float32}
    whole = train(replace(recipe, stages=stages), tmp_path / "full")
    assert {p.dtype for p in whole.language_model.parameters()} == {torch.float32}
    with pytest.raises(RecipeError, match="expected precision bfloat16, got float32"):
        tiny_recipe(model=choice)


@pytest.mark.slow
def test_a_pretrained_encoder_is_read_once_and_saved_with_the_model(tmp_path: Path) -> None:
    vit = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    torch.manual_seed(0)
    config = small_config("clip_vision_model", image_size=64, **vit)
    AutoModel.from_config(config).save_pretrained(tmp_path / "clip")
    stage = replace(tiny_recipe().stages[0], steps=1, trainable=("projector",))
    choice = replace(tiny_choice(), vision=EncoderChoice(str(tmp_path / "clip"), layer=-1))
    recipe = tiny_recipe(model=choice, stages=(stage,))
    model = train(recipe, tmp_path / "run")
    _copied(tmp_path / "clip", tmp_path / "away", move=True)
    state = load(tmp_path / "run").model.vision_encoder.state_dict()
    own = CLIPVisionModel.from_pretrained(tmp_path / "away").state_dict()
    assert len(own) == len(state)
    for name, tensor in model.vision_encoder.state_dict().items():
        assert torch.equal(own[name.removeprefix("model.")], tensor)
        assert torch.equal(state[name], tensor.to(torch.bfloat16).float())
    other = apply_overrides(recipe, ["model.vision=refvlm"])
    assert other == replace(recipe, model=replace(choice, vision="refvlm"))


@pytest.mark.slow
def test_a_pyramid_reads_its_two_encoders_from_their_folders(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"patch_size": 14, "image_size": 336}
    for kind, place, fields in (("clip_vision_model", "vit", shape), ("convnext", "maps", {})):
        AutoModel.from_config(small_config(kind, **fields)).save_pretrained(tmp_path / place)
    vision = EncoderChoice(
        "refvlm-320", vit=str(tmp_path / "vit"), convolution=str(tmp_path / "maps")
    )
    torch.manual_seed(0)
    model, processor = build_model(tiny_recipe(model=replace(tiny_choice(), vision=vision)))
    assert (model.config.vision["kind"], processor.canvas) == ("pyramid", 336)
    own = CLIPVisionModel.from_pretrained(tmp_path / "vit").state_dict()
    for name, tensor in model.get_submodule("vision_encoder.vit.model").state_dict().items():
        assert torch.equal(own[name], tensor)


def test_folders_without_a_usable_language_model_are_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    (tmp_path / "empty").mkdir()
    named = {
        "empty": "expected a folder with config.json",
        "no such thing": "unknown language model 'no such thing'; expected a folder or a hub id",
    }
    for name, message in named.items():
        path = str(tmp_path / name) if name == "empty" else name
        with pytest.raises(ModelError, match=message):
            build_model(apply_overrides(recipe, [f"model.language={path}"]))
    broken = tmp_path / "broken"
    _copied(folders["llama"], broken)
    (broken / "config.json").write_text('{"model_type": "their_own"}')
    with pytest.raises(ModelError, match="type 'their_own': expected a type that transformers"):
        build_model(recipe_with(broken))
    _copied(folders["llama"], tmp_path / "short")
    (tmp_path / "short" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"language model .*short"):
        build_model(recipe_with(tmp_path / "short"))
    _copied(folders["llama"], tmp_path / "code")
    (tmp_path / "code" / "tokenizer_config.json").write_text('{"auto_map": {}}')
    with pytest.raises(ModelError, match="needs custom code"):
        build_model(recipe_with(tmp_path / "code"))


def test_the_default_choice_is_built_from_scratch() -> None:
    assert ModelChoice().language is None
