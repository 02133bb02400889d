"""TAMP's connector, compared with its equations region by region."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from closeness import assert_same_outputs
from region_batches import TEXT_ENCODERS, context, mixed_regions, texts
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel

from deixis.batch import Regions
from deixis.errors import ModelError
from deixis.models.regions import ConnectorConfig, RegionConnector
from deixis.models.regions.choices import build_config
from deixis.models.regions.connector import box_sines
from deixis.models.regions.text_branch import Summary, TextBranch, read_text_config
from deixis.structures import RegionType

VISUAL, LANGUAGE = 12, 20
TINY = ConnectorConfig(width=16, hidden=24, text_encoder=TEXT_ENCODERS["bert"])
VARIANTS = {
    "paper": TINY,
    "sincos": replace(TINY, box_encoder="sincos"),
    "sincos_linear": replace(TINY, box_encoder="sincos_linear"),
    "residual, four heads": replace(TINY, residual=True, heads=4),
    "three tokens": replace(TINY, num_region_tokens=3),
    "text tokens": replace(TINY, num_region_tokens=3, text_queries="tokens"),
    "text mean": replace(TINY, text_summary="mean"),
    "cells": replace(TINY, source="cells"),
}


def build(config: ConnectorConfig, seed: int = 0) -> RegionConnector:
    torch.manual_seed(seed)
    return RegionConnector(VISUAL, LANGUAGE, config).eval()


def one_by_one(module: RegionConnector, visual: Tensor, regions: Regions, index: int) -> Tensor:
    """Return the region features of equations 1 and 2 for one region, by loops."""
    config = module.config
    if regions.types[index] == RegionType.TEXT.number:
        assert module.text is not None
        kept = regions.text_ids[index][regions.text_mask[index]][None]
        states = module.text.encoder(input_ids=kept).last_hidden_state[0]
        summary = states.mean(0) if config.text_summary == "mean" else states[0]
        queries = [module.unify(summary)] * module.num_tokens
        if config.text_queries == "tokens":
            keys = module.unify(states)
            queries = [
                ((keys @ slot) / config.width**0.5).softmax(0) @ keys for slot in module.slots
            ]
        elif module.num_tokens > 1:
            queries = [query + slot for query, slot in zip(queries, module.slots, strict=True)]
    else:
        queries = [module.unify(module.box(regions.boxes[index][None]))[0]] * module.num_tokens
        if module.num_tokens > 1:
            queries = [query + slot for query, slot in zip(queries, module.slots, strict=True)]
    seen = visual[regions.rows[index]]
    attention, size = module.attention, config.width // config.heads
    out = []
    for query in queries:
        heads = []
        for head in range(config.heads):
            part = slice(head * size, (head + 1) * size)
            asked = attention.query.weight[part] @ query
            keys = seen @ attention.key.weight[part].T
            values = seen @ attention.value.weight[part].T
            heads.append((keys @ asked / size**0.5).softmax(0) @ values)
        found = torch.cat(heads)
        if config.residual:
            found = found + query
        fed = module.feed_forward(found)
        out.append(module.norm(found + fed if config.residual else fed))
    return torch.stack(out)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_follows_the_equations(name: str) -> None:
    module = build(VARIANTS[name])
    seen, regions = context(VISUAL), mixed_regions(9)
    visual = seen.tokens
    if module.config.source == "cells":
        visual = seen.cells.flatten(2).transpose(1, 2)
    with torch.no_grad():
        features = module.features(seen, regions)
        tokens = module(seen, regions)
        assert tokens.shape == (9, module.num_tokens, LANGUAGE)
        torch.testing.assert_close(tokens, module.projector(features))
        for index in range(9):
            expected = one_by_one(module, visual, regions, index)
            torch.testing.assert_close(features[index], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_regions_are_independent_of_order_batch_and_padding(name: str) -> None:
    module = build(VARIANTS[name])
    seen, regions = context(VISUAL), mixed_regions(9)
    together = module(seen, regions)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        module(seen, regions.select(order)), together[order], atol=1e-5, rtol=1e-4
    )
    for index in range(9):
        alone = module(seen, regions.select(torch.tensor([index])))
        torch.testing.assert_close(alone[0], together[index], atol=1e-5, rtol=1e-4)
    for pad in ((0, 5), (4, 0), (2, 3)):
        padded = replace(
            regions,
            text_ids=functional.pad(regions.text_ids, pad, value=7),
            text_mask=functional.pad(regions.text_mask, pad),
        )
        torch.testing.assert_close(module(seen, padded), together, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kinds", ["none", "text", "box", "mixed", "most"])
@pytest.mark.parametrize("name", ["paper", "text tokens"])
def test_gradients_are_finite_for_all_kinds_of_regions(name: str, kinds: str) -> None:
    module = build(VARIANTS[name])
    regions = mixed_regions(64 if kinds == "most" else 9)
    described = regions.types == RegionType.TEXT.number
    chosen = {"none": described & ~described, "text": described, "box": ~described}
    regions = regions.select(chosen.get(kinds, described | ~described).nonzero()[:, 0])
    tokens = module(context(VISUAL), regions)
    assert tokens.shape == (len(regions), module.num_tokens, LANGUAGE)
    tokens.square().sum().backward()
    gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    moved = {n.split(".")[0] for n, gradient in gradients.items() if gradient.any()}
    assert ("text" in moved) == (kinds in {"text", "mixed", "most"})
    assert ("box" in moved) == (kinds in {"box", "mixed", "most"})
    assert ("attention" in moved) == (kinds != "none")


@pytest.mark.parametrize("kind", TEXT_ENCODERS)
def test_any_text_encoder_is_supported(kind: str) -> None:
    summary: Summary = "last" if kind == "clip_text_model" else "first"
    module = build(replace(TINY, text_encoder=TEXT_ENCODERS[kind], text_summary=summary))
    assert module.text is not None
    ids, mask = texts(5)
    alone = [module.describe(i[m][None], torch.ones(1, int(m.sum())).bool()) for i, m in
             zip(ids, mask, strict=True)]  # fmt: skip
    torch.testing.assert_close(module.describe(ids, mask), torch.cat(alone), atol=1e-5, rtol=1e-4)
    tokens = module(context(VISUAL), mixed_regions(5))
    tokens.sum().backward()
    idle = [name for name, p in module.named_parameters() if p.grad is None]
    assert idle == []


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_weights_round_trip(name: str, tmp_path: Path) -> None:
    module, other = build(VARIANTS[name]), build(VARIANTS[name], seed=1)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    seen, regions = context(VISUAL), mixed_regions(4)
    assert_same_outputs(module(seen, regions), other(seen, regions))


@pytest.mark.parametrize("name", VARIANTS)
def test_autocast_to_bfloat16_works(name: str) -> None:
    module = build(VARIANTS[name])
    seen, regions = context(VISUAL), mixed_regions(9)
    exact = module(seen, regions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = module(seen, regions)
    low.float().sum().backward()
    torch.testing.assert_close(low.float(), exact, atol=0.1, rtol=0.1)
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


def test_sine_codes_distinguish_every_corner() -> None:
    boxes = torch.tensor([[0.0, 0.25, 0.5, 1.0], [0.25, 0.0, 0.5, 1.0]])
    codes = box_sines(boxes, 34)
    assert codes.shape == (2, 34)
    assert not codes[:, 32:].any()
    for box, code in zip(boxes, codes, strict=True):
        for corner, value in enumerate(box):
            for wave in range(4):
                phase = 2 * torch.pi * value * 100 ** (wave / 3)
                torch.testing.assert_close(code[4 * corner + wave], phase.sin(), atol=1e-4, rtol=0)
                torch.testing.assert_close(
                    code[16 + 4 * corner + wave], phase.cos(), atol=1e-4, rtol=0
                )


def test_shape_and_weights_are_read_from_a_folder(tmp_path: Path) -> None:
    fields = dict(TEXT_ENCODERS["bert"])
    torch.manual_seed(3)
    published = AutoModel.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))
    published.to(torch.float16).save_pretrained(tmp_path)
    config = read_text_config(tmp_path)
    branch = TextBranch(config).eval()
    assert next(branch.parameters()).dtype == torch.float32
    branch.load(tmp_path)
    ids, mask = texts(3)
    expected = published.float().eval()(input_ids=ids, attention_mask=mask.long())
    torch.testing.assert_close(branch(ids, mask)[2], expected.last_hidden_state[:, 0])
    narrow = TextBranch({**config, "hidden_size": 8})
    with pytest.raises(ModelError, match=r"text encoder in .*: Error"):
        narrow.load(tmp_path)
    for load in (read_text_config, branch.load):
        with pytest.raises(ModelError, match="text encoder in "):
            load(tmp_path / "nowhere")


def test_regions_that_cannot_be_encoded_are_refused() -> None:
    seen, regions = context(VISUAL), mixed_regions(6)
    with pytest.raises(ModelError, match="the connector has no text_encoder"):
        build(replace(TINY, text_encoder=None))(seen, regions)
    empty = replace(regions, text_mask=torch.zeros_like(regions.text_mask))
    with pytest.raises(ModelError, match="description 0 is empty"):
        build(TINY)(seen, empty)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"box_encoder": "fourier"}, "box_encoder 'fourier': expected one of"),
        ({"width": 0}, "width: expected at least 1, got 0"),
        ({"width": 30, "heads": 4}, "width 30: expected a multiple of the 4 heads"),
        ({"width": "16"}, "width: expected int, got '16'"),
        ({"residual": 1}, "residual: expected bool, got 1"),
        ({"depth": 3}, r"ConnectorConfig: unknown fields \['depth'\]"),
    ],
)
def test_an_invalid_configuration_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_config(ConnectorConfig, fields)


def test_models_that_are_not_text_encoders_are_refused() -> None:
    for kind in ("vit", "nothing", None):
        with pytest.raises(ModelError, match=f"text_encoder of model_type {kind!r}"):
            build(replace(TINY, text_encoder={"model_type": kind}))
