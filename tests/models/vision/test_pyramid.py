import json
from pathlib import Path
from typing import Any

import pytest
import torch
from closeness import assert_same_outputs
from encoders import canvases, small_encoder
from torch.nn import functional

from deixis.errors import ModelError
from deixis.models.vision.loading import ENCODER_PRESETS
from deixis.models.vision.normalisation import CLIP
from deixis.models.vision.pretrained import PretrainedEncoder, vision_config
from deixis.models.vision.pyramid import (
    PYRAMID_PRESETS,
    PyramidConfig,
    PyramidEncoder,
    join_encoders,
    load_pyramid,
    resize_concat,
)


def pyramid(index: tuple[int, ...] = (0, 1, 2, 4)) -> PyramidEncoder:
    vit = small_encoder("clip_vision_model")
    convolution = small_encoder("convnext", seed=1, normalisation=CLIP)
    return join_encoders(vit, convolution, index=index)


def test_features_are_the_first_stages_and_the_map_of_the_vit() -> None:
    encoder = pyramid()
    vit, convolution = encoder.vit, encoder.convolution
    assert convolution is not None
    pixels = canvases(2, 64)
    features = encoder(pixels)
    small = functional.interpolate(pixels, size=(32, 32), mode="bicubic", antialias=True)
    words = vit(small.clamp(-1, 1))
    detail = convolution(pixels)
    assert_same_outputs(features.tokens, words.tokens)
    expected = [*detail.pyramid[:3], words.pyramid[-1]]
    for mine, theirs in zip(features.pyramid, expected, strict=True):
        assert_same_outputs(mine, theirs)
    assert encoder.widths == (8, 16, 24, 32)
    assert encoder.grids == (16, 8, 4, 4)
    assert (encoder.num_tokens, encoder.token_width) == (16, 32)


@pytest.mark.parametrize(
    ("index", "widths", "grids"),
    [
        ((0, 1, 2, 3), (8, 16, 24, 32), (16, 8, 4, 2)),
        ((4,), (32,), (4,)),
        ((2, 4), (24, 32), (4, 4)),
    ],
)
def test_any_features_can_be_chosen(
    index: tuple[int, ...], widths: tuple[int, ...], grids: tuple[int, ...]
) -> None:
    encoder = pyramid(index)
    features = encoder(canvases(1, 64))
    assert encoder.widths == widths
    assert encoder.grids == grids
    assert [level.shape[1:] for level in features.pyramid] == [
        (width, grid, grid) for width, grid in zip(widths, grids, strict=True)
    ]
    assert features.tokens.shape == (1, 16, 32)


def test_the_canvas_of_the_vit_can_be_given() -> None:
    encoder = pyramid()
    pixels, own = canvases(1, 64), canvases(1, 32, seed=9)
    features = encoder(pixels, own)
    assert_same_outputs(features.tokens, encoder.vit(own).tokens)
    assert_same_outputs(features.pyramid[0], encoder(pixels).pyramid[0])


def test_both_encoders_see_the_same_place() -> None:
    """The response to a bright corner moves with it in every level."""
    encoder = pyramid()
    plain = torch.zeros(1, 3, 64, 64)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        marked = plain.clone()
        marked[..., 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 1
        for level, without in zip(
            encoder(marked).pyramid[:2], encoder(plain).pyramid[:2], strict=True
        ):
            change = (level - without).abs().sum((0, 1))
            half = change.shape[0] // 2
            sums = change.unflatten(1, (2, half)).unflatten(0, (2, half)).sum((1, 3))
            assert sums.argmax() == 2 * row + column


def test_a_single_vit_is_a_valid_pyramid() -> None:
    vit = small_encoder("clip_vision_model")
    encoder = join_encoders(vit, None, index=(0,))
    features = encoder(canvases(1, 32))
    assert [level.shape for level in features.pyramid] == [(1, 32, 4, 4)]
    assert encoder.config.image_size == 32


def test_a_pyramid_round_trips_through_json_and_a_state_dict() -> None:
    encoder = pyramid()
    fields = json.loads(json.dumps(encoder.config.to_dict()))
    config = PyramidConfig.from_dict(fields)
    assert config == encoder.config
    again = PyramidEncoder(config).train(mode=False)
    again.load_state_dict(encoder.state_dict(), strict=True)
    pixels = canvases(1, 64)
    for mine, theirs in zip(again(pixels).pyramid, encoder(pixels).pyramid, strict=True):
        assert_same_outputs(mine, theirs)
    assert PyramidConfig.from_dict(
        json.loads(json.dumps(join_encoders(encoder.vit, None, index=(0,)).config.to_dict()))
    ).widths == (32,)


def test_gradients_are_finite_and_a_frozen_pyramid_has_none() -> None:
    encoder = pyramid()
    features = encoder(canvases(1, 64))
    (features.tokens.sum() + sum(level.square().mean() for level in features.pyramid)).backward()
    for part in (encoder.vit, encoder.convolution):
        assert part is not None
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        assert grads
        assert all(torch.isfinite(grad).all() for grad in grads)
    encoder.freeze().train()
    assert not encoder(canvases(1, 64)).tokens.requires_grad
    assert not encoder.vit.training


def test_levels_are_joined_at_the_resolution_of_the_first() -> None:
    levels = (torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4), torch.randn(2, 1, 8, 8))
    joined = resize_concat(levels)
    assert joined.shape == (2, 9, 8, 8)
    assert torch.equal(joined[:, :3], levels[0])
    assert torch.equal(joined[:, 8:], levels[2])
    expected = functional.interpolate(levels[1], (8, 8), mode="bilinear", align_corners=False)
    assert_same_outputs(joined[:, 3:8], expected)


def large(size: int) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": size,
    }


@pytest.mark.parametrize(
    ("name", "widths", "grids"),
    [
        ("refvlm", (192, 384, 768, 1024), (128, 64, 32, 24)),
        ("refvlm-320", (192, 384, 768, 1024), (80, 40, 20, 24)),
        ("refvlm-convnext-320", (192, 384, 768, 1536), (80, 40, 20, 10)),
        ("refvlm-convnext-336", (192, 384, 768, 1536), (84, 42, 21, 10)),
        ("refvlm-vit-336", (1024,), (24,)),
    ],
)
def test_presets_have_the_feature_widths_of_the_paper(
    name: str, widths: tuple[int, ...], grids: tuple[int, ...]
) -> None:
    preset = PYRAMID_PRESETS[name]
    convnext = {
        "model_type": "convnext",
        "hidden_sizes": [192, 384, 768, 1536],
        "depths": [3, 3, 27, 3],
    }
    config = PyramidConfig(
        vision_config(large(336)),
        vision_config(convnext, image_size=preset.convolution_size, uneven=True),
        preset.index,
    )
    assert config.widths == widths
    assert config.grids == grids
    assert config.image_size == max(336, preset.convolution_size)
    assert {preset.vit, preset.convolution} <= set(ENCODER_PRESETS)


def test_a_preset_is_loaded_from_folders(tmp_path: Path) -> None:
    vit, convolution = small_encoder("clip_vision_model"), small_encoder("convnext")
    vit.model.save_pretrained(tmp_path / "vit")
    convolution.model.save_pretrained(tmp_path / "convnext")
    encoder = load_pyramid("refvlm-320", vit=tmp_path / "vit", convolution=tmp_path / "convnext")
    assert encoder.config.image_size == 320
    assert encoder.grids == (80, 40, 20, 4)
    assert not any(p.requires_grad for p in encoder.parameters())
    pixels = canvases(1, 32)
    assert_same_outputs(encoder.vit(pixels).tokens, vit(pixels).tokens)
    alone = load_pyramid("refvlm-vit-336", vit=tmp_path / "vit")
    assert alone.convolution is None
    assert_same_outputs(alone(pixels).pyramid[0], vit(pixels).pyramid[-1])


def test_impossible_pyramids_are_refused() -> None:
    vit, convolution = small_encoder("clip_vision_model"), small_encoder("convnext")
    with pytest.raises(ModelError, match="feature 5: expected 0 to 4"):
        join_encoders(vit, convolution, index=(0, 5))
    with pytest.raises(ModelError, match="feature 1: expected 0 to 0"):
        join_encoders(vit, None, index=(1,))
    with pytest.raises(ModelError, match="expected at least one feature, got none"):
        join_encoders(vit, convolution, index=())
    with pytest.raises(ModelError, match="expected a ViT, got a ConvNeXt"):
        join_encoders(convolution, convolution, index=(0,))
    with pytest.raises(ModelError, match="expected a ConvNeXt, got a ViT"):
        join_encoders(vit, vit, index=(0,))
    with pytest.raises(ModelError, match="canvas of 32x32: the encoder expects 64x64"):
        pyramid()(canvases(1, 32))
    with pytest.raises(ModelError, match="unknown pyramid 'nothing'"):
        load_pyramid("nothing")
    assert isinstance(vit, PretrainedEncoder)
