"""Several region encoders in one model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from closeness import assert_same_outputs
from region_batches import FINE, TEXT_ENCODERS, context, mixed_regions
from safetensors.torch import load_file, save_file
from torch import nn

from deixis.batch import Regions
from deixis.batch.regions import mask_boxes
from deixis.errors import ModelError
from deixis.models.config import PointingVLMConfig
from deixis.models.positions import sine_positions
from deixis.models.regions import (
    MASK_REGIONS,
    Aggregation,
    ConnectorConfig,
    CoordinateRegionConfig,
    MaskRegionConfig,
    RegionConnector,
    RegionContext,
    RegionEncoder,
    RegionEncoders,
    RegionEncodersConfig,
    RegionTokens,
    build_region_encoder,
)
from deixis.structures import RegionType

CELLS, VISUAL, LANGUAGE = 8, 12, 20
MIX = RegionEncodersConfig(
    encoders={
        "fine": MaskRegionConfig(4, Aggregation(positions="learned")),
        "task": ConnectorConfig(width=16, num_region_tokens=2, text_encoder=TEXT_ENCODERS["bert"]),
        "coarse": MaskRegionConfig(source="tokens"),
        "numbers": CoordinateRegionConfig(marks=True),
    },
    routes={
        "mask": "fine",
        "scribble": "coarse",
        "box": "task",
        "text": "task",
        "point": "numbers",
    },
)
LENGTH = {"mask": 4, "scribble": 1, "box": 2, "text": 2, "point": 0}


def build(config: RegionEncodersConfig = MIX, seed: int = 0) -> RegionEncoder | RegionEncoders:
    torch.manual_seed(seed)
    built = build_region_encoder(
        config, cell_width=CELLS, visual_width=VISUAL, language_width=LANGUAGE
    )
    return built.eval()


def seen() -> RegionContext:
    return context(VISUAL, cell_width=CELLS)


def split(tokens: RegionTokens) -> list[torch.Tensor]:
    return list(tokens.vectors.split(tokens.counts.tolist()))


def test_each_region_gets_the_tokens_of_its_encoder() -> None:
    model, regions = build(), mixed_regions(13)
    assert isinstance(model, RegionEncoders)
    tokens = split(model.tokens(seen(), regions))
    kinds = tuple(RegionType)
    for index, found in enumerate(tokens):
        kind = kinds[int(regions.types[index])]
        assert len(found) == LENGTH[kind] == MIX.forms[kind].num_tokens
        if len(found):
            encoder = model.encoders[MIX.routes[kind]]
            assert isinstance(encoder, RegionEncoder | RegionConnector)
            alone = encoder.encode(seen(), regions.select(torch.tensor([index])))
            torch.testing.assert_close(found, alone[0], atol=1e-5, rtol=1e-4)


def test_the_order_of_regions_only_reorders_tokens() -> None:
    model, regions = build(), mixed_regions(13)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    before = split(model.tokens(seen(), regions))
    after = split(model.tokens(seen(), regions.select(order)))
    for place, index in enumerate(order.tolist()):
        torch.testing.assert_close(after[place], before[index], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 64])
def test_gradients_are_finite_for_any_number_of_regions(count: int) -> None:
    model = build()
    tokens = model.tokens(seen(), mixed_regions(count))
    assert tokens.vectors.shape == (int(tokens.counts.sum()), LANGUAGE)
    assert tokens.counts.shape == (count,)
    if len(tokens.vectors):
        tokens.vectors.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert bool(gradients) == (count > 1)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_vectors_replace_placeholders() -> None:
    tokens = build().tokens(seen(), mixed_regions(10))
    embeddings = torch.zeros(2, 15, LANGUAGE)
    places = torch.zeros(2, 15, dtype=torch.bool)
    places.view(-1)[: len(tokens.vectors)] = True
    spliced = embeddings.masked_scatter(places[..., None], tokens.vectors)
    assert torch.equal(spliced[places], tokens.vectors)


def test_the_default_encoder_is_that_of_earlier_versions() -> None:
    torch.manual_seed(0)
    model = build(RegionEncodersConfig())
    assert isinstance(model, RegionEncoder)
    # released weights have these names
    assert {key.split(".")[0] for key in model.state_dict()} == {"projector"}
    regions = mixed_regions(14)
    regions = regions.select((regions.types != RegionType.TEXT.number).nonzero()[:, 0])
    cells = seen().cells
    normed = (cells - cells.mean(1, keepdim=True)) / (
        cells.var(1, keepdim=True, correction=0) + 1e-5
    ).sqrt()
    places = sine_positions(cells.shape[-1], CELLS).T.unflatten(1, cells.shape[-2:])
    expected = model.projector(model.aggregate(normed + places, regions.masks, regions.rows))
    found = model.tokens(seen(), regions)
    torch.testing.assert_close(found.vectors, expected.flatten(0, 1))
    assert torch.equal(found.counts, torch.ones(len(regions), dtype=torch.long))
    routes = {kind.value: "a" for kind in RegionType if kind is not RegionType.TEXT}
    mix = RegionEncoders(
        RegionEncodersConfig({"a": MaskRegionConfig()}, routes),
        cell_width=CELLS,
        visual_width=VISUAL,
        language_width=LANGUAGE,
    )
    mix.encoders["a"].load_state_dict(model.state_dict())
    torch.testing.assert_close(mix.tokens(seen(), regions).vectors, found.vectors)


@pytest.mark.parametrize("name", MASK_REGIONS)
def test_presets_of_masks_give_tokens_of_the_language_model(name: str) -> None:
    config = MASK_REGIONS[name]
    side = 24 if name in {"code_embedding", "code_legacy"} else 6
    where = replace(
        seen(), tokens=torch.randn(3, side**2, VISUAL), project=nn.Linear(VISUAL, LANGUAGE)
    )
    regions = mixed_regions(4)
    routes = dict.fromkeys(["point", "box", "scribble", "mask"], "one")
    model = build(RegionEncodersConfig({"one": config}, routes))
    assert isinstance(model, RegionEncoder)
    found = model.tokens(where, regions)
    assert found.vectors.shape == (4 * config.num_tokens, LANGUAGE)
    if config.projector == "image":
        assert not [name for name in model.state_dict() if name.startswith("projector")]
        with pytest.raises(ModelError, match="share the projector of image tokens"):
            model.tokens(replace(where, project=None), regions)


def test_the_legacy_mask_token_depends_on_the_mask_alone_without_projector() -> None:
    where = replace(seen(), tokens=torch.randn(3, 24**2, VISUAL))
    routes = dict.fromkeys(["point", "box", "scribble", "mask"], "one")
    model = build(RegionEncodersConfig({"one": MASK_REGIONS["code_legacy"]}, routes))
    assert isinstance(model, RegionEncoder)
    assert model.aggregate.mask_embedding.weight.shape == (LANGUAGE, 24**2)
    masks = torch.zeros(2, 24, 24)
    masks[0, 3:9, 5:20], masks[1, 11, 11] = 1, 1
    regions = Regions.drawn(masks, torch.tensor([0, 2]))
    with torch.no_grad():
        found = model.encode(where, regions)
        flat = masks.flatten(1)
        normed = flat / flat.sum(1, keepdim=True)
        under = (where.token_map()[[0, 2]].flatten(2) * normed[:, None]).sum(2)
        torch.testing.assert_close(found[:, 1], model.aggregate.mask_embedding(normed))
        torch.testing.assert_close(found[:, 0], model.projector(under))


def test_configurations_saved_before_shares_keep_their_half_covered_cells() -> None:
    stored = {"encoders": {"one": {"kind": "mask", "blocks": 4}}, "routes": {"mask": "one"}}
    one = RegionEncodersConfig.from_json(stored).encoders["one"]
    assert isinstance(one, MaskRegionConfig)
    assert one.aggregation.coverage == "half"
    assert PointingVLMConfig(text_config=None).regions_config.encoders["mask"] == MaskRegionConfig()
    assert MASK_REGIONS["paper"].aggregation.coverage == "share"


@pytest.mark.parametrize("config", [MIX, RegionEncodersConfig()])
def test_a_configuration_round_trips_through_json(config: RegionEncodersConfig) -> None:
    assert RegionEncodersConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_saved_weights_round_trip(tmp_path: Path) -> None:
    model = build()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(MIX.to_json()))
    stored = json.loads((tmp_path / "config.json").read_text())
    other = build(RegionEncodersConfig.from_json(stored), seed=1)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    regions = mixed_regions(10)
    expected = model.tokens(seen(), regions).vectors
    assert_same_outputs(other.tokens(seen(), regions).vectors, expected)


def test_autocast_to_bfloat16_works() -> None:
    model, regions = build(), mixed_regions(10)
    exact = model.tokens(seen(), regions).vectors
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model.tokens(seen(), regions).vectors
    low.float().sum().backward()
    torch.testing.assert_close(low.float(), exact, atol=0.1, rtol=0.1)


def test_boxes_around_masks() -> None:
    masks = torch.zeros(3, 8, 16)
    masks[0, 2:5, 4:12] = 1
    masks[1, 7, 15] = 0.1
    expected = [[4 / 16, 2 / 8, 12 / 16, 5 / 8], [15 / 16, 7 / 8, 1.0, 1.0], [0.0] * 4]
    assert mask_boxes(masks).tolist() == expected
    assert mask_boxes(torch.zeros(0, 8, 8)).shape == (0, 4)
    given = mixed_regions(4)
    drawn = Regions.drawn(given.masks, given.rows)
    assert torch.equal(drawn.boxes, given.boxes)
    assert drawn.types.tolist() == [RegionType.MASK.number] * 4
    assert drawn.to("cpu").masks.shape == (4, FINE, FINE)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"routes": {"circle": "mask"}}, "route from region type 'circle'"),
        ({"routes": {"box": "other"}}, "route of box to 'other': expected one of"),
        ({"routes": {"text": "mask"}}, "route of text to 'mask': expected a connector"),
        ({"routes": ["mask"]}, "routes: expected a JSON object"),
        ({"encoders": {"a": {"kind": "roi"}}}, "region encoder 'a' of kind 'roi'"),
        ({"encoders": {"a": {"kind": "mask", "tokens": 1}}}, "unknown fields"),
        (
            {"encoders": {"a": {"kind": "coordinates", "decimals": 0}}},
            "decimals: expected at least",
        ),
        ({"encoders": {"a": {"kind": "mask", "projector": "image"}}}, "expected source tokens"),
        (
            {"encoders": {"a": {"kind": "mask", "aggregation": {"layout": "rows"}}}},
            "layout 'rows': expected one of",
        ),
        ({"encoder": {}}, "unknown fields"),
    ],
)
def test_an_invalid_configuration_is_refused(stored: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        RegionEncodersConfig.from_json(stored)


def test_a_type_without_an_encoder_is_refused() -> None:
    config = RegionEncodersConfig()
    assert RegionType.TEXT not in config.forms
    with pytest.raises(ModelError, match="described in words: expected one with a mask"):
        build(config).tokens(seen(), mixed_regions(5))
    partial = RegionEncodersConfig(MIX.encoders, {"mask": "fine"})
    with pytest.raises(ModelError, match="no encoder for regions of type 'point'"):
        build(partial).tokens(seen(), mixed_regions(5))
    with pytest.raises(ModelError, match="15 vision tokens: expected a square"):
        replace(seen(), tokens=torch.zeros(3, 15, VISUAL)).token_map()
