from typing import Any

import pytest
import torch
from closeness import assert_same_outputs
from encoders import canvases, small_encoder
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from deixis.errors import CheckpointError, ModelError
from deixis.models.adapters import AdapterConfig, insert_adapters, merge_adapters
from deixis.models.tuning import (
    LoraChoice,
    Method,
    Tuning,
    apply_tuning,
    has_lora,
    insert_lora,
    load_tuned_state,
    merge_lora,
    remove_lora,
    tune,
    tuned_state,
)

IDS = torch.tensor([[1, 5, 9, 30, 7], [1, 8, 2, 3, 11]])
METHODS: tuple[Method, ...] = ("freeze", "full", "lora", "adapters", "lora+adapters")


class Parts(nn.Module):
    """A small composite model with named parts."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.vision_encoder = small_encoder("clip_vision_model", layer=-1, seed=seed)
        self.projector = nn.Linear(32, 32)
        config = LlamaConfig(
            vocab_size=40,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
        self.language_model = LlamaForCausalLM(config)
        self.train(mode=False)

    def forward(self) -> torch.Tensor:
        words = self.language_model.get_input_embeddings()(IDS)
        image = self.projector(self.vision_encoder(canvases(2, 32)).tokens)
        logits = self.language_model(inputs_embeds=torch.cat([image, words], dim=1)).logits
        assert isinstance(logits, torch.Tensor)
        return logits


def shake(model: nn.Module) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))


def moved(model: nn.Module) -> set[str]:
    """Return the names of parameters that change in one training step."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    model().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("method", METHODS)
def test_no_tuning_changes_the_output(method: Method) -> None:
    model = Parts()
    before = model()
    report = apply_tuning(
        model, {"vision_encoder": Tuning(method), "language_model": Tuning(method)}, others="full"
    )
    assert torch.allclose(model(), before, atol=1e-6)
    assert [row.part for row in report.rows] == ["vision_encoder", "projector", "language_model"]


@pytest.mark.parametrize("method", METHODS)
def test_the_report_counts_the_trainable_parameters(method: Method) -> None:
    model = Parts()
    report = apply_tuning(model, {"language_model": Tuning(method), "projector": Tuning("full")})
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.trained == trained
    assert report.total == sum(p.numel() for p in model.parameters())
    vision, projector, language = report.rows
    assert (vision.method, vision.trained) == ("freeze", 0)
    assert projector.own == projector.total == 32 * 33
    own = sum(
        p.numel() for n, p in Parts().language_model.named_parameters() if p.is_floating_point()
    )
    adapters = 2 * 2 * 32 * 8 if "adapters" in method else 0
    lora = 2 * 2 * (32 * 8 + 8 * 32) if "lora" in method else 0
    assert (language.adapters, language.lora) == (adapters, lora)
    assert language.own == (own if method == "full" else 0)
    assert language.total == own + adapters + lora


def test_a_training_step_changes_only_the_chosen_parameters() -> None:
    model = Parts()
    apply_tuning(
        model,
        {
            "vision_encoder": Tuning("adapters"),
            "projector": Tuning("full"),
            "language_model": Tuning("lora+adapters"),
        },
    )
    names = moved(model)
    assert {name.split(".")[0] for name in names} == {
        "vision_encoder",
        "projector",
        "language_model",
    }
    for name in names:
        assert name.startswith("projector.") or ".adapter." in name or ".lora_" in name


def test_a_full_part_trains_everything_and_a_frozen_one_nothing() -> None:
    model = Parts()
    apply_tuning(model, {"language_model": Tuning("full")})
    names = moved(model)
    assert {name.split(".")[0] for name in names} == {"language_model"}
    assert any("embed_tokens" in name or "lm_head" in name for name in names)


def test_a_later_stage_keeps_adapters_and_lora_of_an_earlier_one() -> None:
    model = Parts()
    apply_tuning(model, {"language_model": Tuning("adapters")})
    shake(model)
    before = model()
    report = apply_tuning(model, {"language_model": Tuning("lora+adapters")})
    assert torch.allclose(model(), before, atol=1e-6)
    assert report.rows[2].adapters == 1024
    report = apply_tuning(model, {"language_model": Tuning("lora")})
    assert (report.rows[2].adapters, report.rows[2].lora) == (0, 2048)
    assert torch.allclose(model(), before, atol=1e-6)


def test_the_report_is_described_line_by_line() -> None:
    model = Parts()
    report = apply_tuning(model, {"language_model": Tuning("lora+adapters")})
    total = f"{report.rows[2].total:,}"
    told = report.describe().splitlines()
    assert told[2] == (
        f"language_model: lora+adapters, 3,072 of {total} train (adapters 1,024, LoRA 2,048)"
    )
    assert told[1] == "projector: freeze, 0 of 1,056 train"
    assert told[3].startswith("all: 3,072 of ")


def test_counts_of_tamp_and_u_llava_at_7b() -> None:
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
        row = tune(model, Tuning("lora+adapters"))
    assert row.adapters == 2_097_152
    # rank 8 on queries and values of 32 layers
    assert row.lora == 32 * 2 * 2 * 4096 * 8
    assert row.own == 0
    assert row.total == 6_738_415_616 + row.trained


def test_lora_merges_and_leaves_plain_maps() -> None:
    model = Parts().language_model
    names = list(model.state_dict())
    assert insert_lora(model, LoraChoice()) == 4
    assert has_lora(model)
    shake(model)
    before = model(input_ids=IDS).logits
    assert merge_lora(model) == 4
    assert not has_lora(model)
    assert list(model.state_dict()) == names
    assert torch.allclose(model(input_ids=IDS).logits, before, atol=1e-5)


def test_lora_is_removed_with_its_weights() -> None:
    model = Parts().language_model
    before = model(input_ids=IDS).logits
    insert_lora(model, LoraChoice(rank=2, targets=("q_proj", "k_proj", "v_proj", "o_proj")))
    shake(model)
    assert remove_lora(model) == 8
    with torch.no_grad():
        assert model(input_ids=IDS).logits.shape == before.shape
    fresh = Parts().language_model
    insert_lora(fresh, LoraChoice())
    for name, parameter in fresh.named_parameters():
        if ".lora_B." in name:
            nn.init.ones_(parameter)
    assert remove_lora(fresh) == 4
    assert_same_outputs(fresh(input_ids=IDS).logits, before)


def test_lora_merges_before_adapters_and_both_leave_the_same_function() -> None:
    model = Parts().language_model
    linear = AdapterConfig(activation="identity", bias=False)
    insert_adapters(model, linear)
    insert_lora(model, LoraChoice())
    shake(model)
    before = model(input_ids=IDS).logits
    with pytest.raises(ModelError, match="hint: merge LoRA first"):
        merge_adapters(model)
    merge_lora(model)
    assert merge_adapters(model) == 2
    assert torch.allclose(model(input_ids=IDS).logits, before, atol=1e-4)
    assert list(model.state_dict()) == list(Parts().language_model.state_dict())


@pytest.mark.parametrize("method", ["adapters", "lora", "lora+adapters"])
def test_tuned_weights_are_saved_and_restored_separately(method: Any) -> None:
    choices = {"vision_encoder": Tuning(method), "language_model": Tuning(method)}
    model, fresh = Parts(), Parts()
    apply_tuning(model, choices)
    apply_tuning(fresh, choices)
    shake(model)
    kept = tuned_state(model)
    assert sum(tensor.numel() for tensor in kept.values()) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    load_tuned_state(fresh, kept)
    assert_same_outputs(fresh(), model())
    first = next(iter(kept))
    with pytest.raises(CheckpointError, match=r"expected \(.*\), got None"):
        load_tuned_state(fresh, {n: t for n, t in kept.items() if n != first})
    with pytest.raises(CheckpointError, match=r"got \(3,\)"):
        load_tuned_state(fresh, {**kept, first: torch.ones(3)})


def test_tunings_that_fit_no_part_are_refused() -> None:
    model = Parts()
    with pytest.raises(ModelError, match="unknown part 'nothing'; expected one of"):
        apply_tuning(model, {"nothing": Tuning("full")})
    with pytest.raises(ModelError, match="others: expected freeze or full, got 'lora'"):
        apply_tuning(model, {}, others="lora")
    with pytest.raises(ModelError, match="Linear has no self-attention"):
        apply_tuning(model, {"projector": Tuning("adapters")})
    with pytest.raises(
        ModelError, match=r"Sequential has no modules \['q_proj', 'v_proj'\] for LoRA"
    ):
        tune(nn.Sequential(nn.Linear(2, 2)), Tuning("lora"))
