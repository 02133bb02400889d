import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from closeness import assert_same_outputs
from encoders import SMALL, canvases, small_encoder
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from deixis.errors import CheckpointError, ModelError, StorageError
from deixis.models.adapters import (
    ADAPTER_PRESETS,
    Adapter,
    AdapterConfig,
    adapters_of,
    insert_adapters,
    load_adapters,
    merge_adapters,
    remove_adapters,
    save_adapters,
    self_attentions,
)
from deixis.models.headed import cache_argument
from deixis.models.vision.small import SmallVisionConfig, SmallVisionEncoder

TEXT: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LANGUAGE = {
    "gpt2": {
        "vocab_size": 40,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "llama": TEXT,
    "mistral": TEXT,
    "qwen2": TEXT,
    "qwen3": {**TEXT, "head_dim": 16},
}
VISION = [kind for kind in sorted(SMALL) if "convnext" not in kind]
IDS = torch.tensor([[1, 5, 9, 30, 7], [1, 8, 2, 3, 11]])
LINEAR = AdapterConfig(activation="identity", bias=True)


def language_model(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **LANGUAGE[kind]))
    model.train(mode=False)
    assert isinstance(model, PreTrainedModel)
    return model


def run(model: nn.Module) -> torch.Tensor:
    if isinstance(model, PreTrainedModel):
        logits = model(input_ids=IDS).logits
        assert isinstance(logits, torch.Tensor)
        return logits
    tokens = model(canvases(2, 32)).tokens
    assert isinstance(tokens, torch.Tensor)
    return tokens


def built(kind: str) -> nn.Module:
    return language_model(kind) if kind in LANGUAGE else small_encoder(kind, layer=-1)


def shake(model: nn.Module) -> None:
    torch.manual_seed(7)
    with torch.no_grad():
        for adapter in adapters_of(model).values():
            for parameter in adapter.parameters():
                parameter.copy_(0.3 * torch.randn_like(parameter))


@pytest.mark.parametrize("kind", [*sorted(LANGUAGE), *VISION])
@pytest.mark.parametrize("preset", sorted(ADAPTER_PRESETS))
def test_new_adapters_do_not_change_the_output(kind: str, preset: str) -> None:
    model = built(kind)
    before = run(model)
    adapters = insert_adapters(model, ADAPTER_PRESETS[preset])
    assert len(adapters) == 3
    assert_same_outputs(run(model), before)
    shake(model)
    assert not torch.allclose(run(model), before, atol=1e-3)
    assert remove_adapters(model) == 3
    assert_same_outputs(run(model), before)
    assert not adapters_of(model)
    assert not [name for name in model.state_dict() if "adapter" in name]
    assert len(insert_adapters(model)) == 3


@pytest.mark.parametrize("kind", ["llama", "clip_vision_model", "gpt2"])
def test_an_adapter_is_applied_directly_before_its_attention(kind: str) -> None:
    model = built(kind)
    insert_adapters(model)
    shake(model)
    for name, attention in self_attentions(model).items():
        adapter = adapters_of(model)[f"{name}.adapter"]
        given: list[torch.Tensor] = []
        read: list[torch.Tensor] = []
        adapter.register_forward_pre_hook(lambda _, args, to=given: to.append(args[0]))
        reader = next(iter(attention.children()))
        reader.register_forward_pre_hook(lambda _, args, to=read: to.append(args[0]))
        run(model)
        with torch.no_grad():
            hidden = given[0] @ adapter.down.weight.T
            expected = given[0] + (hidden * hidden.sigmoid()) @ adapter.up.weight.T
        assert torch.allclose(read[0], expected, atol=1e-5)


def test_the_equation_holds_element_by_element() -> None:
    torch.manual_seed(0)
    adapter = Adapter(5, AdapterConfig(hidden=2))
    nn.init.normal_(adapter.up.weight)
    features = torch.randn(3, 4, 5)
    out = adapter(features).detach()
    down, up = adapter.down.weight.detach(), adapter.up.weight.detach()
    for row in range(3):
        for place in range(4):
            token = features[row, place]
            hidden = [(token * down[k]).sum() for k in range(2)]
            active = [value / (1 + torch.exp(-value)) for value in hidden]
            for channel in range(5):
                expected = token[channel] + sum(active[k] * up[channel, k] for k in range(2))
                assert out[row, place, channel] == pytest.approx(float(expected), abs=1e-5)


def meta_count(model_class: Any, config: Any, choice: AdapterConfig, skip_last: int = 0) -> int:
    with torch.device("meta"):
        model = model_class(config)
        insert_adapters(model, choice, skip_last=skip_last)
    return sum(p.numel() for a in adapters_of(model).values() for p in a.parameters())


def test_parameter_counts_are_those_of_the_paper() -> None:
    """Pink, section 4.1: 393,216 in ViT-L/14 and 2,097,152 in a language model of 7B."""
    vit = AutoConfig.for_model(
        "clip_vision_model",
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
    )
    llama = LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
    )
    paper, code = ADAPTER_PRESETS["paper"], ADAPTER_PRESETS["code"]
    assert meta_count(CLIPVisionModel, vit, paper) == 393_216
    assert meta_count(LlamaForCausalLM, llama, paper) == 2_097_152
    # the public code adds biases, and skips the layer that is not read
    assert meta_count(CLIPVisionModel, vit, code, skip_last=1) == 23 * (16_384 + 8 + 1024)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["llama", "qwen3", "clip_vision_model", "dinov3_vit"])
def test_adapters_train_through_gradient_checkpointing(kind: str) -> None:
    model = built(kind)
    model.requires_grad_(requires_grad=False)
    insert_adapters(model)
    shake(model)
    inner = library_part(model)
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        model.train()
        if checkpointing:
            inner.gradient_checkpointing_enable({"use_reentrant": False})
        run(model).float().square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    plain, again = gradients
    assert len(plain) == len(again) == 6
    for one, other in zip(plain, again, strict=True):
        assert torch.isfinite(one).all()
        assert one.abs().sum() > 0
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6)


def test_only_the_second_map_gets_a_gradient_at_first() -> None:
    """With W_u zero, only W_u has a gradient."""
    model = language_model("llama")
    adapters = insert_adapters(model)
    run(model).square().mean().backward()
    for adapter in adapters.values():
        assert adapter.down.weight.grad is not None
        assert not adapter.down.weight.grad.any()
        assert adapter.up.weight.grad is not None
        assert adapter.up.weight.grad.abs().sum() > 0


def library_part(model: nn.Module) -> PreTrainedModel:
    inner = model if isinstance(model, PreTrainedModel) else model.get_submodule("model")
    assert isinstance(inner, PreTrainedModel)
    return inner


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", *VISION])
def test_linear_adapters_merge_into_the_maps_that_read_them(kind: str) -> None:
    model = built(kind)
    insert_adapters(model, LINEAR, skip_last=1)
    shake(model)
    before = run(model)
    assert merge_adapters(library_part(model)) == 2
    assert not adapters_of(model)
    assert torch.allclose(run(model), before, atol=2e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "dinov3_vit", "clip_vision_model"])
def test_a_merged_model_round_trips_through_transformers(kind: str, tmp_path: Path) -> None:
    model = built(kind)
    insert_adapters(model, LINEAR)
    shake(model)
    inner = library_part(model)
    merge_adapters(inner)
    inner.save_pretrained(tmp_path)
    auto = AutoModelForCausalLM if kind in LANGUAGE else AutoModel
    again = auto.from_pretrained(tmp_path)
    assert again.state_dict().keys() == inner.state_dict().keys()
    for name, weight in inner.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_linear_adapters_without_biases_merge_anywhere() -> None:
    model = language_model("mistral")
    insert_adapters(model, AdapterConfig(activation="identity"))
    shake(model)
    before = run(model)
    merge_adapters(model)
    assert torch.allclose(run(model), before, atol=2e-5)


def test_a_refused_merge_leaves_the_model_unchanged() -> None:
    model = language_model("mistral")
    insert_adapters(model, LINEAR)
    shake(model)
    before = run(model)
    with pytest.raises(ModelError, match="configuration no setting for them"):
        merge_adapters(model)
    assert_same_outputs(run(model), before)
    assert len(adapters_of(model)) == 3
    model = language_model("llama")
    insert_adapters(model)
    with pytest.raises(ModelError, match="adapters with silu between their maps are not linear"):
        merge_adapters(model)
    model = language_model("gpt2")
    insert_adapters(model, LINEAR)
    with pytest.raises(ModelError, match="cannot be merged into Conv1D: expected Linear"):
        merge_adapters(model)


@pytest.mark.parametrize("kind", ["llama", "siglip_vision_model"])
@pytest.mark.parametrize("preset", sorted(ADAPTER_PRESETS))
def test_adapters_are_saved_and_loaded_separately(kind: str, preset: str, tmp_path: Path) -> None:
    model = built(kind)
    insert_adapters(model, ADAPTER_PRESETS[preset], skip_last=1)
    shake(model)
    save_adapters(model, tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "adapters.json",
        "adapters.safetensors",
    }
    assert not list(tmp_path.glob(".*"))
    fresh = built(kind)
    loaded = load_adapters(fresh, tmp_path / "kept")
    assert len(loaded) == 2
    assert_same_outputs(run(fresh), run(model))
    shake(model)
    with torch.no_grad():
        next(iter(adapters_of(model).values())).up.weight.zero_()
    save_adapters(model, tmp_path / "kept")
    load_adapters(fresh, tmp_path / "kept")
    assert_same_outputs(run(fresh), run(model))


def test_adapters_are_part_of_a_state_dict_and_of_a_copy() -> None:
    model = language_model("qwen2")
    insert_adapters(model)
    shake(model)
    fresh = language_model("qwen2")
    insert_adapters(fresh)
    fresh.load_state_dict(model.state_dict(), strict=True)
    assert_same_outputs(run(fresh), run(model))
    twin = copy.deepcopy(model)
    assert_same_outputs(run(twin), run(model))
    with torch.no_grad():
        next(iter(adapters_of(twin).values())).up.weight.add_(1)
    assert not torch.equal(run(twin), run(model))


def test_generation_with_a_cache_equals_a_whole_pass() -> None:
    model = language_model("llama")
    insert_adapters(model)
    shake(model)
    whole = model(input_ids=IDS).logits
    first = model(input_ids=IDS[:, :3], use_cache=True)
    cached = {cache_argument(model): first.past_key_values}
    rest = model(input_ids=IDS[:, 3:], **cached).logits
    assert torch.allclose(torch.cat([first.logits, rest], 1), whole, atol=1e-5)


def test_padding_has_no_influence_on_adapted_rows() -> None:
    model = language_model("llama")
    insert_adapters(model)
    shake(model)
    padded = torch.cat([torch.zeros(2, 2, dtype=torch.long), IDS], dim=1)
    seen = padded != 0
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=padded, attention_mask=seen.long(), position_ids=positions).logits
    assert torch.allclose(logits[:, 2:], run(model), atol=1e-5)


def test_adapters_have_the_precision_of_their_attention() -> None:
    model = language_model("llama").bfloat16()
    before = run(model)
    adapters = insert_adapters(model)
    assert {p.dtype for a in adapters.values() for p in a.parameters()} == {torch.bfloat16}
    assert_same_outputs(run(model), before)
    for adapter in adapters.values():
        adapter.float()
    assert_same_outputs(run(model), before)
    assert run(model).dtype == torch.bfloat16


def test_the_small_encoder_and_cross_attention_take_no_adapters() -> None:
    config = SmallVisionConfig(image_size=32, widths=(4, 4, 4, 8), blocks=(1, 1), layers=1, heads=2)
    with pytest.raises(ModelError, match="SmallVisionEncoder has no self-attention"):
        insert_adapters(SmallVisionEncoder(config))
    bart = AutoConfig.for_model(
        "bart",
        vocab_size=20,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
    )
    names = list(self_attentions(AutoModel.from_config(bart)))
    assert names == ["encoder.layers.0.self_attn", "decoder.layers.0.self_attn"]


def test_adapters_are_inserted_once_into_existing_attentions() -> None:
    model = language_model("llama")
    with pytest.raises(ModelError, match="skip_last: expected 0 to 2, got 3"):
        insert_adapters(model, skip_last=3)
    with pytest.raises(ModelError, match="has no adapters to save"):
        save_adapters(model, Path("nowhere"))
    insert_adapters(model)
    with pytest.raises(ModelError, match="already has adapters"):
        insert_adapters(model)
    with pytest.raises(ModelError, match="Linear has no self-attention"):
        insert_adapters(nn.Linear(2, 2))


def test_damaged_and_foreign_adapters_are_refused_and_the_model_is_unchanged(
    tmp_path: Path,
) -> None:
    model = language_model("llama")
    insert_adapters(model)
    shake(model)
    save_adapters(model, tmp_path)
    described = json.loads((tmp_path / "adapters.json").read_text())
    plain = language_model("llama")
    before = run(plain)

    def refused(message: str, victim: nn.Module = plain) -> None:
        with pytest.raises(CheckpointError, match=message):
            load_adapters(victim, tmp_path)

    refused("the model has no attention", small_encoder("clip_vision_model"))
    other = language_model("llama")
    insert_adapters(other, AdapterConfig(hidden=4))
    refused("the model has other adapters", other)
    for change, message in (
        ({"format": "other"}, "format 'other'"),
        ({"config": {"nothing": 1}}, "nothing"),
        ({"config": {"hidden": 4}}, r"expected \(4, 32\), got \(8, 32\)"),
        ({"places": described["places"][:1]}, r"expected None, got \(8, 32\)"),
    ):
        (tmp_path / "adapters.json").write_text(json.dumps({**described, **change}))
        refused(message)
    (tmp_path / "adapters.json").write_text(json.dumps(described))
    weights = tmp_path / "adapters.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    refused("adapters ")
    (tmp_path / "adapters.json").unlink()
    refused("adapters ")
    assert not adapters_of(plain)
    assert_same_outputs(run(plain), before)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    model = language_model("llama")
    insert_adapters(model)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="kept: cannot write: not a directory"):
        save_adapters(model, tmp_path / "file" / "kept")
