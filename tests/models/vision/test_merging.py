"""Vision models of Qwen-VL on a square canvas, compared with transformers."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from encoders import canvases
from PIL import Image
from released import RELEASED
from transformers import AutoConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from deixis.errors import ModelError
from deixis.models.positions import GridPositions
from deixis.models.vision.kinds import read_vision, vision_sizes, write_vision
from deixis.models.vision.merging import (
    MergingEncoder,
    MergingVisionConfig,
    cut_patches,
    merging_config,
)
from deixis.models.vision.normalisation import CLIP, SIGNED

KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def small(kind: str, **choices: Any) -> MergingVisionConfig:
    config = AutoConfig.for_model(kind, **RELEASED[kind])
    return merging_config(config.vision_config, **{"image_size": 96, **choices})


def encoder(kind: str, **choices: Any) -> MergingEncoder:
    torch.manual_seed(0)
    built = MergingEncoder(small(kind, **choices))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built.train(mode=False)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_have_the_sizes_of_the_configuration(kind: str) -> None:
    pyramid = ((-1, 2.0), (1, 1.0), (0, 0.5))
    built = encoder(kind, pyramid=pyramid)
    sizes = vision_sizes(built.config)
    features = built(canvases(2, 96))
    assert features.tokens.shape == (2, 36, 32) == (2, sizes.num_tokens, sizes.token_width)
    assert sizes.grids == (24, 12, 6)
    shapes = [level.shape for level in features.pyramid]
    wanted = zip(sizes.widths, sizes.grids, strict=True)
    assert shapes == [(2, width, grid, grid) for width, grid in wanted]
    assert len(features.deep) == built.config.deep_layers == (2 if kind == "qwen3_vl" else 0)
    assert all(each.shape == features.tokens.shape for each in features.deep)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_images_one_by_one(kind: str) -> None:
    built = encoder(kind)
    pixels = canvases(3, 96)
    together = built(pixels)
    for index in range(3):
        alone = built(pixels[index : index + 1])
        for one, many in zip(
            (alone.tokens, *alone.pyramid, *alone.deep),
            (together.tokens, *together.pyramid, *together.deep),
            strict=True,
        ):
            assert torch.allclose(one[0], many[index], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_the_first_block_lie_where_their_patches_lie(kind: str) -> None:
    built = encoder(kind, pyramid=((0, 1.0),))
    pixels = canvases(1, 96)
    other = pixels.clone()
    other[:, :, 40:48, 16:24] += 0.5
    first, second = (built(each).pyramid[0] for each in (pixels, other))
    changed = (first - second).abs().sum(1)[0] > 1e-4
    assert changed.nonzero().tolist() == [[5, 2]]


@pytest.mark.parametrize("size", [32, 64, 96, 112, 160])
@pytest.mark.parametrize("window", [32, 48, 64])
def test_the_order_of_windows_is_that_of_transformers(size: int, window: int) -> None:
    config = small("qwen2_5_vl", image_size=size)
    config = replace(config, model={**config.model, "window_size": window})
    grid = torch.tensor([[1, config.grid, config.grid]])
    places = get_vision_position_ids(grid, 2)
    raster = places[:, 0] * config.grid + places[:, 1]
    assert torch.equal(small("qwen2_vl", image_size=size).order(), raster)
    windows, _ = get_vision_window_index(
        grid, spatial_merge_size=2, window_size=window, patch_size=8
    )
    assert torch.equal(config.order(), raster.unflatten(0, (-1, 4))[windows].flatten())


@pytest.mark.parametrize(("patch", "normalisation"), [(14, CLIP), (16, SIGNED)])
def test_patches_of_a_square_image_equal_those_of_the_transformers_processor(
    patch: int, normalisation: Any
) -> None:
    side = 8 * patch
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    library = Qwen2VLImageProcessorPil(
        patch_size=patch, image_mean=normalisation.mean, image_std=normalisation.std
    )
    wanted = library(Image.fromarray(image), return_tensors="pt")
    canvas = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    cut = cut_patches(normalisation.from_signed(canvas), patch, merge=2, frames=2)
    assert wanted["image_grid_thw"].tolist() == [[1, 8, 8]]
    assert torch.allclose(cut[0], wanted["pixel_values"], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_round_trips_through_json(kind: str) -> None:
    config = small(kind, pyramid=((-1, 2.0), (0, 1.0)))
    stored = json.loads(json.dumps(write_vision(config)))
    assert stored["kind"] == "merging"
    assert read_vision(stored) == config
    assert MergingVisionConfig.from_dict(asdict(config)) == config


def test_each_family_has_its_own_normalisation() -> None:
    assert small("qwen2_5_vl").normalisation == CLIP
    assert small("qwen3_vl").normalisation == SIGNED
    assert small("qwen3_vl", normalisation=CLIP).normalisation == CLIP


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_size": 40}, "image size 40: expected a multiple of 16 pixels"),
        ({"pyramid": ((4, 1.0),)}, "layer 4: expected one of the encoder's 4 layers"),
        ({"pyramid": ((1, 0.0),)}, "magnification of a pyramid level: expected > 0, got 0"),
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        small("qwen2_vl", **changes)


def test_another_kind_of_model_and_another_canvas_are_refused() -> None:
    with pytest.raises(ModelError, match="unknown kind of merging vision model 'vit'"):
        MergingVisionConfig({"model_type": "vit"}, 96)
    with pytest.raises(ModelError, match="canvas of 32x32: the encoder expects 96x96"):
        encoder("qwen2_vl")(canvases(1, 32))


@pytest.mark.parametrize("grid", [1, 3, 4])
def test_positions_count_rows_and_columns_and_continue_after_the_image(grid: int) -> None:
    before, after = 1, 3
    sequence = torch.arange(before + grid**2 + after)[None]
    wanted = [(0, 0, 0)]
    wanted += [(1, 1 + row, 1 + column) for row in range(grid) for column in range(grid)]
    wanted += [(1 + grid + step,) * 3 for step in range(after)]
    image = (sequence >= before) & (sequence < before + grid**2)
    # padded on the left, with another row that has no image, and one that begins with it
    padded = torch.cat([torch.zeros(1, 2, dtype=torch.long), sequence], dim=1)
    shown = torch.cat([torch.zeros(1, 2, dtype=torch.bool), image], dim=1)
    rows = torch.cat([padded, padded, padded - 1])
    where = torch.cat([shown, torch.zeros_like(shown), shown])
    placed = GridPositions(grid).spread(rows, where)
    assert placed[:, 0, 2:].T.tolist() == [list(each) for each in wanted]
    assert torch.equal(placed[:, 1], padded.expand(3, -1))
    assert torch.equal(placed[:, 2, 3:], placed[:, 0, 3:] - 1)
