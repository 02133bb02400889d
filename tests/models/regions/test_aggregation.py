"""Mask-guided aggregation against sums written out cell by cell."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from closeness import assert_same_outputs
from safetensors.torch import load_file, save_file
from torch.nn import functional

from deixis.errors import ModelError
from deixis.models.regions import Aggregation, MaskGuidedAggregation
from deixis.models.regions.aggregation import PRESETS
from deixis.models.regions.choices import build_config

SIDE, PATCH, WIDTH = 3, 2, 5
GRID = SIDE * PATCH
SMALL = {
    name: replace(preset, patch=GRID if preset.mask_code == "flat" else PATCH)
    for name, preset in PRESETS.items()
}


def build(name: str) -> MaskGuidedAggregation:
    torch.manual_seed(0)
    blocks = 1 if name == "code_legacy" else SIDE**2
    return MaskGuidedAggregation(blocks, width=WIDTH, variant=SMALL[name])


def scene(
    seed: int, *, regions: int, images: int = 3, fine: int = 4 * GRID
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return features, masks from one pixel to half of the image, and the image of each."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, WIDTH, GRID, GRID, generator=generator)
    masks = torch.zeros(regions, fine, fine)
    for index in range(regions):
        left, top = torch.randint(0, fine, (2,), generator=generator).tolist()
        width, height = torch.randint(1, fine // 2, (2,), generator=generator).tolist()
        masks[index, top : top + height, left : left + width] = 1
        if index % 3 == 0:
            masks[index] = 0
            masks[index, top, left] = 1
    return features, masks, torch.randint(0, images, (regions,), generator=generator)


def cells_of(mask: torch.Tensor, coverage: str) -> list[list[float]]:
    """Return the weights of cells, computed pixel by pixel, with a sum of one."""
    step = len(mask) // GRID
    share = [
        [
            sum(
                float(mask[row * step + dy, column * step + dx])
                for dy in range(step)
                for dx in range(step)
            )
            / step**2
            for column in range(GRID)
        ]
        for row in range(GRID)
    ]
    if coverage == "touched":
        shrunk = functional.interpolate(mask[None, None], (GRID, GRID), mode="bilinear")[0, 0]
        weights = [[float(value > 0) for value in row] for row in shrunk]
    elif coverage == "half":
        weights = [[float(value >= 0.5) for value in row] for row in share]
    else:
        weights = share
    if not any(map(any, weights)):
        best = max(max(row) for row in share)
        places = [(r, c) for r in range(GRID) for c in range(GRID) if share[r][c] == best]
        weights = [[float((r, c) == places[0]) for c in range(GRID)] for r in range(GRID)]
    total = sum(map(sum, weights))
    return [[value / total for value in row] for row in weights]


def block_of(row: int, column: int, layout: str, side: int) -> int:
    if layout == "strip":
        return (row * GRID + column) // (GRID * GRID // side**2)
    return row * side // GRID * side + column * side // GRID


def brute_force(
    module: MaskGuidedAggregation, features: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return the tokens of one region, computed cell by cell."""
    variant, side = module.variant, module.side
    weights = cells_of(mask, variant.coverage)
    tokens = torch.zeros(side**2, WIDTH)
    places = [(row, column) for row in range(GRID) for column in range(GRID)]
    if variant.pooling == "embedding":
        masked = features * torch.tensor(weights)
        kernel = module.patch_embedding.weight
        tokens = functional.conv2d(masked[None], kernel, stride=PATCH)[0].flatten(1).T.clone()
    else:
        for row, column in places:
            block = block_of(row, column, variant.layout, side)
            own = [w for w in places if block_of(*w, variant.layout, side) == block]
            area = sum(weights[r][c] for r, c in own) if variant.area == "block" else 1.0
            tokens[block] += features[:, row, column] * weights[row][column] / (area or 1.0)
    if variant.mask_code == "mean":
        mean = torch.tensor([sum(map(sum, weights)) / GRID**2])
        tokens = torch.cat([tokens, module.mask_embedding(mean)[None]])
    if variant.mask_code == "flat":
        tokens = torch.cat([tokens, module.mask_embedding(torch.tensor(weights).flatten())[None]])
    for token in range(len(tokens)):
        for channel in range(WIDTH):
            if variant.positions == "cosine":
                turn = token / variant.base ** (2 * channel / WIDTH)
                tokens[token, channel] += variant.strength * math.cos(turn)
            if variant.positions == "learned":
                tokens[token, channel] += module.position_embedding.weight[token, channel]
    return tokens


@pytest.mark.parametrize("name", PRESETS)
def test_every_variant_equals_a_loop_over_cells(name: str) -> None:
    module = build(name)
    features, masks, rows = scene(1, regions=7)
    with torch.no_grad():
        tokens = module(features, masks, rows)
        assert tokens.shape == (7, module.num_tokens, WIDTH)
        for token, mask, row in zip(tokens, masks, rows, strict=True):
            torch.testing.assert_close(token, brute_force(module, features[row], mask))


@pytest.mark.parametrize(
    "variant",
    [
        Aggregation(coverage="share"),
        Aggregation(area="block", positions="none"),
        Aggregation(layout="strip", area="block", coverage="share", strength=0.5, base=100.0),
    ],
)
def test_options_can_be_combined(variant: Aggregation) -> None:
    module = MaskGuidedAggregation(SIDE**2, variant=variant)
    features, masks, rows = scene(2, regions=5)
    for token, mask, row in zip(module(features, masks, rows), masks, rows, strict=True):
        torch.testing.assert_close(token, brute_force(module, features[row], mask))


def test_a_thin_region_keeps_all_of_its_cells() -> None:
    # a line as wide as 5 of 336 pixels over cells of 14, of which it covers at most a third
    masks, rows = torch.zeros(1, 96, 96), torch.tensor([0])
    masks[0, 49] = 0.6
    features = torch.randn(1, WIDTH, 24, 24, generator=torch.Generator().manual_seed(1))
    paper = MaskGuidedAggregation(9, strength=0.0)
    weights = paper._weights(masks, (24, 24))
    assert (weights > 0).sum() == 24
    torch.testing.assert_close(weights[0, 12], torch.full((24,), 1 / 24))
    tokens = paper(features, masks, rows)[0]
    expected = features[0, :, 12].unflatten(1, (3, 8)).sum(2).T / 24
    torch.testing.assert_close(tokens[3:6], expected)
    assert not tokens[[0, 1, 2, 6, 7, 8]].any()
    half = MaskGuidedAggregation(9, variant=PRESETS["deixis"], strength=0.0)
    assert (half._weights(masks, (24, 24)) > 0).sum() == 1


def test_half_covered_cells_are_those_of_half_covered_pixels() -> None:
    _, whole, _ = scene(10, regions=9)
    generator = torch.Generator().manual_seed(2)
    shares = whole * (0.5 + 0.5 * torch.rand(whole.shape, generator=generator))
    shares += (whole == 0) * 0.49 * torch.rand(whole.shape, generator=generator)
    for name in ("deixis", "code", "code_legacy"):
        module = build(name)
        torch.testing.assert_close(
            module._weights(shares, (GRID, GRID)), module._weights(whole, (GRID, GRID))
        )


def test_strips_differ_from_a_grid() -> None:
    features, masks, rows = scene(3, regions=4)
    grid, strip = (
        MaskGuidedAggregation(9, variant=Aggregation(layout=layout))(features, masks, rows)
        for layout in ("grid", "strip")
    )
    assert not torch.allclose(grid, strip)
    torch.testing.assert_close(grid.sum(1), strip.sum(1))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("fine", [GRID, 4 * GRID, 8 * GRID])
def test_no_single_pixel_vanishes(name: str, fine: int) -> None:
    module = build(name)
    places = [(0, 0), (fine - 1, fine - 1), (0, fine // 2), (fine // 3, 1), (fine // 2, fine // 2)]
    masks = torch.zeros(len(places), fine, fine)
    for mask, (row, column) in zip(masks, places, strict=True):
        mask[row, column] = 1
    weights = module._weights(masks, (GRID, GRID))
    for weight, (row, column) in zip(weights, places, strict=True):
        assert weight.sum() == pytest.approx(1.0)
        assert weight[row * GRID // fine, column * GRID // fine] > 0


def test_a_map_with_indivisible_sides_keeps_all_cells() -> None:
    features = torch.ones(1, WIDTH, 5, 7)
    masks, rows = torch.ones(1, 20, 28), torch.zeros(1, dtype=torch.long)
    for layout in ("grid", "strip"):
        variant = Aggregation(layout=layout, positions="none")
        tokens = MaskGuidedAggregation(9, variant=variant)(features, masks, rows)
        torch.testing.assert_close(tokens.sum(1), torch.ones(1, WIDTH))


@pytest.mark.parametrize("regions", [0, 1, 64])
@pytest.mark.parametrize("name", PRESETS)
def test_gradients_are_finite_for_any_number_of_regions(name: str, regions: int) -> None:
    module = build(name)
    features, masks, rows = scene(4, regions=regions)
    features.requires_grad_()
    tokens = module(features, masks, rows)
    assert tokens.shape == (regions, module.num_tokens, WIDTH)
    tokens.square().sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert bool(features.grad.any()) == (regions > 0)
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", PRESETS)
def test_regions_are_independent_of_order_and_batch(name: str) -> None:
    module = build(name)
    features, masks, rows = scene(5, regions=12)
    together = module(features, masks, rows)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(features, masks[order], rows[order]), together[order])
    images = torch.tensor([2, 0, 1])
    moved = module(features[images], masks, images.argsort()[rows])
    torch.testing.assert_close(moved, together)
    for index in range(12):
        image = features[rows[index]][None]
        alone = module(image, masks[index : index + 1], torch.tensor([0]))
        torch.testing.assert_close(alone[0], together[index])


@pytest.mark.parametrize("name", PRESETS)
def test_saved_weights_round_trip(name: str, tmp_path: Path) -> None:
    module = build(name)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    other = MaskGuidedAggregation(module.num_blocks, width=WIDTH, variant=SMALL[name])
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    features, masks, rows = scene(6, regions=3)
    assert_same_outputs(module(features, masks, rows), other(features, masks, rows))


@pytest.mark.parametrize("name", PRESETS)
def test_autocast_keeps_the_sums_exact(name: str) -> None:
    module = build(name)
    features, masks, rows = scene(7, regions=6)
    exact = module(features, masks, rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_outputs(module(features, masks, rows), exact)
        low = module(features.bfloat16(), masks, rows)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, atol=0.05, rtol=0.02)


def test_the_preset_of_the_paper_has_no_weights_unless_alpha_is_learned() -> None:
    assert not list(MaskGuidedAggregation(9).parameters())
    module = MaskGuidedAggregation(4, variant=Aggregation(learned_strength=True))
    features, masks, rows = scene(8, regions=2)
    module(features, masks, rows).sum().backward()
    assert [name for name, _ in module.named_parameters()] == ["strength"]
    assert isinstance(module.strength, torch.nn.Parameter)
    assert module.strength.grad is not None
    assert module.strength.grad.isfinite()


def test_an_empty_mask_is_refused() -> None:
    features, masks, rows = scene(9, regions=3)
    masks[1] = 0
    with pytest.raises(ModelError, match="mask of region 1: expected a mask that covers a cell"):
        MaskGuidedAggregation(9)(features, masks, rows)
    masks[1] = torch.nan
    with pytest.raises(ModelError, match="mask of region 1"):
        MaskGuidedAggregation(9)(features, masks, rows)


def test_invalid_aggregations_are_refused() -> None:
    for name, value in {"layout": "rows", "positions": "sine", "area": None}.items():
        with pytest.raises(ModelError, match=f"{name} {value!r}: expected one of"):
            build_config(Aggregation, {name: value})
    with pytest.raises(ModelError, match="expected a width, got none"):
        MaskGuidedAggregation(9, variant=PRESETS["code"])
    for count in (0, -4, 8):
        with pytest.raises(ModelError, match=f"expected a square number, got {count}"):
            MaskGuidedAggregation(count)
    module = MaskGuidedAggregation(9, width=WIDTH, variant=PRESETS["code_embedding"])
    with pytest.raises(ModelError, match=r"features of 6x6 cells: .* are for 24x24"):
        module(*scene(1, regions=1))
