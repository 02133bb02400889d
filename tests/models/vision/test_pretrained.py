import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from closeness import assert_same_outputs
from encoders import MAPS, SMALL, VIT, canvases, small_config, small_encoder
from transformers import AutoModel, CLIPConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

from deixis.errors import ModelError
from deixis.models.vision.normalisation import CLIP, IMAGENET, SIGNED, Normalisation
from deixis.models.vision.pretrained import (
    FAMILIES,
    PretrainedEncoder,
    PretrainedVisionConfig,
    pack_patches,
    resample,
    vision_config,
    vision_fields,
)

KINDS = sorted(SMALL)
VITS = [kind for kind in KINDS if kind not in MAPS]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("larger", [False, True])
def test_outputs_have_the_sizes_of_the_configuration(kind: str, larger: bool) -> None:  # noqa: FBT001
    encoder = small_encoder(kind, image_size=96 if larger else None)
    features = encoder(canvases(2, encoder.config.image_size))
    assert features.tokens.shape == (2, encoder.num_tokens, encoder.token_width)
    shapes = [level.shape for level in features.pyramid]
    wanted = zip(encoder.widths, encoder.grids, strict=True)
    assert shapes == [(2, width, grid, grid) for width, grid in wanted]
    assert all(torch.isfinite(each).all() for each in (features.tokens, *features.pyramid))


def library_states(kind: str, encoder: PretrainedEncoder, pixels: torch.Tensor) -> Any:
    """Return the hidden states of the transformers model."""
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (encoder.config.mean, encoder.config.std)
    )
    normed = ((pixels + 1) / 2 - mean) / std
    if kind == "siglip2_vision_model":
        side = VIT["patch_size"]
        patches = torch.stack(
            [torch.from_numpy(convert_image_to_patches(image.numpy(), side)) for image in normed]
        )
        grid = pixels.shape[-1] // side
        return encoder.model(
            pixel_values=patches,
            pixel_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long),
            spatial_shapes=torch.tensor([[grid, grid]] * len(pixels)),
            output_hidden_states=True,
        )
    return encoder.model(pixel_values=normed, output_hidden_states=True)


@pytest.mark.parametrize("kind", VITS)
@pytest.mark.parametrize("layer", [-2, 1, "last"])
def test_tokens_are_the_chosen_layer_without_class_and_registers(kind: str, layer: Any) -> None:
    encoder = small_encoder(kind, layer=layer)
    pixels = canvases(2, 32)
    output = library_states(kind, encoder, pixels)
    states = output.last_hidden_state if layer == "last" else output.hidden_states[layer]
    prefix = states.shape[1] - 16
    features = encoder(pixels)
    assert torch.allclose(features.tokens, states[:, prefix:], atol=1e-5)
    for image in range(2):
        for row in range(4):
            for column in range(4):
                cell = features.pyramid[-1][image, :, row, column]
                assert torch.equal(cell, features.tokens[image, 4 * row + column])


def test_a_kept_class_token_comes_first() -> None:
    encoder = small_encoder("clip_vision_model", class_token=True)
    pixels = canvases(2, 32)
    states = library_states("clip_vision_model", encoder, pixels).hidden_states[-2]
    features = encoder(pixels)
    assert features.tokens.shape == (2, encoder.num_tokens, 32) == (2, 17, 32)
    assert torch.allclose(features.tokens, states, atol=1e-5)
    assert features.pyramid[-1].shape == (2, 32, 4, 4)
    registers = small_encoder("dinov3_vit", class_token=True, layer="last")
    tokens = registers(pixels).tokens
    output = library_states("dinov3_vit", registers, pixels)
    assert torch.allclose(tokens[:, 0], output.pooler_output, atol=1e-5)
    assert tokens.shape == (2, 17, 32)


@pytest.mark.parametrize("kind", MAPS)
def test_a_convolutional_pyramid_is_its_stages(kind: str) -> None:
    encoder = small_encoder(kind)
    pixels = canvases(2, 64)
    states = library_states(kind, encoder, pixels).hidden_states
    features = encoder(pixels)
    assert encoder.grids == (16, 8, 4, 2)
    for level, state in zip(features.pyramid, states[1:], strict=True):
        assert torch.allclose(level, state, atol=1e-5)
    assert torch.allclose(features.tokens[:, 1], states[-1][:, :, 0, 1], atol=1e-5)


def test_a_pyramid_mixes_layers_and_magnifications() -> None:
    encoder = small_encoder(
        "clip_vision_model", layer="last", pyramid=((1, 2.0), (-2, 1), (3, 0.5))
    )
    pixels = canvases(1, 32)
    states = library_states("clip_vision_model", encoder, pixels).hidden_states
    maps = [state[:, 1:].transpose(1, 2).unflatten(2, (4, 4)) for state in states]
    features = encoder(pixels)
    assert encoder.grids == (8, 4, 2)
    assert torch.allclose(features.pyramid[1], maps[2], atol=1e-5)
    means = maps[3].unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5))
    assert torch.allclose(features.pyramid[2], means, atol=1e-5)
    assert torch.allclose(features.pyramid[0], magnified(maps[1]), atol=1e-4)


def magnified(maps: torch.Tensor) -> torch.Tensor:
    """Twice the size by bilinear interpolation between the centres of cells, cell by cell."""
    batch, channels, height, width = maps.shape
    out = torch.zeros(batch, channels, 2 * height, 2 * width)
    for row in range(2 * height):
        for column in range(2 * width):
            y, x = (row + 0.5) / 2 - 0.5, (column + 0.5) / 2 - 0.5
            y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
            top, left = min(int(y), height - 2), min(int(x), width - 2)
            down, right = y - top, x - left
            out[:, :, row, column] = (
                maps[:, :, top, left] * (1 - down) * (1 - right)
                + maps[:, :, top + 1, left] * down * (1 - right)
                + maps[:, :, top, left + 1] * (1 - down) * right
                + maps[:, :, top + 1, left + 1] * down * right
            )
    return out


def test_resampling_keeps_a_constant() -> None:
    flat = torch.full((1, 2, 4, 4), 3.0)
    for grid in (2, 3, 4, 7, 16):
        assert torch.allclose(resample(flat, grid), torch.full((1, 2, grid, grid), 3.0))


def test_patches_equal_those_of_transformers() -> None:
    pixels = canvases(2, 24)
    patches, shapes = pack_patches(pixels, 8)
    assert shapes.tolist() == [[3, 3], [3, 3]]
    for image, cut in zip(pixels, patches, strict=True):
        expected = convert_image_to_patches(image.numpy(), 8)
        assert torch.equal(cut, torch.from_numpy(expected))


@pytest.mark.parametrize("kind", VITS)
def test_rows_of_a_batch_are_independent(kind: str) -> None:
    encoder = small_encoder(kind)
    pixels = canvases(3, 32)
    together = encoder(pixels).tokens
    order = torch.tensor([2, 0, 1])
    assert torch.allclose(encoder(pixels[order]).tokens, together[order], atol=1e-5)
    assert torch.allclose(encoder(pixels[1:2]).tokens[0], together[1], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_pixels_and_are_finite(kind: str) -> None:
    encoder = small_encoder(kind)
    pixels = canvases(1, encoder.config.image_size).requires_grad_()
    features = encoder(pixels)
    (features.tokens.square().sum() + sum(level.sum() for level in features.pyramid)).backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    grads = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert len(grads) > 5
    assert all(torch.isfinite(grad).all() for grad in (pixels.grad, *grads))


@pytest.mark.parametrize(
    "kind", ["clip_vision_model", "dinov3_vit", "siglip2_vision_model", "convnext"]
)
def test_configuration_and_weights_round_trip(kind: str) -> None:
    encoder = small_encoder(kind)
    fields = json.loads(json.dumps(vision_fields(encoder.config)))
    config = PretrainedVisionConfig.from_dict(fields)
    again = PretrainedEncoder(config).train(mode=False)
    again.load_state_dict(encoder.state_dict(), strict=True)
    pixels = canvases(1, encoder.config.image_size)
    assert_same_outputs(again(pixels).tokens, encoder(pixels).tokens)
    assert config == encoder.config


class CompositeConfig(PreTrainedConfig):
    model_type = "composite-of-a-test"

    def __init__(self, vision: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.vision = vision
        super().__init__(**kwargs)


class Composite(PreTrainedModel):
    config_class = CompositeConfig

    def __init__(self, config: CompositeConfig) -> None:
        super().__init__(config)
        assert config.vision is not None
        self.vision_encoder = PretrainedEncoder(PretrainedVisionConfig.from_dict(config.vision))
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped

    def _init_weights(self, module: torch.nn.Module) -> None:
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_in_a_composite_model_round_trips_through_save_pretrained(
    kind: str, tmp_path: Path
) -> None:
    """Buffers that are in no file are restored too: positions and frequencies."""
    encoder = small_encoder(kind)
    model = Composite(CompositeConfig(vision_fields(encoder.config)))
    model.vision_encoder.load_state_dict(encoder.state_dict(), strict=True)
    model.save_pretrained(tmp_path)
    again = Composite.from_pretrained(tmp_path)
    assert again.vision_encoder.config == encoder.config
    pixels = canvases(1, encoder.config.image_size)
    assert_same_outputs(again.vision_encoder(pixels).tokens, encoder(pixels).tokens)


def test_a_frozen_encoder_stays_in_evaluation_mode() -> None:
    encoder = small_encoder("dinov3_vit").freeze()
    parent = torch.nn.Sequential(encoder).train()
    assert parent.training
    assert not any(module.training for module in encoder.modules())
    pixels = canvases(1, 32)
    assert_same_outputs(encoder(pixels).tokens, encoder(pixels).tokens)
    encoder.requires_grad_(requires_grad=True)
    assert encoder.train().model.training


def test_dino_positions_are_not_distorted_in_training() -> None:
    config = small_config("dinov3_vit", pos_embed_rescale=2.0)
    encoder = PretrainedEncoder(vision_config(config, layer="last")).train()
    pixels = canvases(1, 32)
    assert_same_outputs(encoder(pixels).tokens, encoder(pixels).tokens)


def test_the_vision_part_of_a_whole_models_configuration_is_used() -> None:
    whole = CLIPConfig(vision_config=VIT, text_config={"hidden_size": 16, "num_hidden_layers": 1})
    config = vision_config(whole)
    assert config.model_type == "clip_vision_model"
    assert config == vision_config(small_config("clip_vision_model"))
    assert vision_config(whole.to_dict()) == config


def test_sizes_of_released_encoders_are_those_of_the_papers() -> None:
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    for size, tokens in ((224, 256), (336, 576)):
        fields = {"model_type": "clip_vision_model", "patch_size": 14, "image_size": size, **large}
        config = vision_config(fields)
        assert (config.num_tokens, config.token_width) == (tokens, 1024)
        assert config.place_of(config.layer) == 23
        assert config.normalisation == CLIP
        assert vision_config(fields, class_token=True).num_tokens == tokens + 1


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
def test_gradient_checkpointing_changes_nothing() -> None:
    encoder = small_encoder("clip_vision_model").train()
    pixels = canvases(1, 32)
    encoder(pixels).tokens.square().sum().backward()
    plain = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
    encoder.zero_grad()
    encoder.model.gradient_checkpointing_enable()
    encoder(pixels).tokens.square().sum().backward()
    saved = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert len(plain) == len(saved)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(plain, saved, strict=True))


@pytest.mark.parametrize("constants", [CLIP, IMAGENET, SIGNED])
def test_normalised_pixels_have_zero_mean(constants: Normalisation) -> None:
    pixels = canvases(1, 4)
    unit = (pixels + 1) / 2
    normed = constants.from_signed(pixels)
    for channel in range(3):
        expected = (unit[0, channel] - constants.mean[channel]) / constants.std[channel]
        assert torch.allclose(normed[0, channel], expected, atol=1e-6)
    fill = torch.tensor(constants.fill).view(1, 3, 1, 1) / 255
    assert constants.from_unit(fill).abs().max() < 0.01
    assert CLIP.fill == (123, 117, 104)


def test_an_encoder_equals_automodel() -> None:
    config = small_config("clip_vision_model")
    encoder = small_encoder("clip_vision_model", layer=-1)
    model = AutoModel.from_config(config)
    model.load_state_dict(encoder.model.state_dict())
    model.train(mode=False)
    pixels = canvases(1, 32)
    normed = CLIP.from_signed(pixels)
    assert torch.allclose(encoder(pixels).tokens, model(normed).last_hidden_state[:, 1:], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "choices", "message"),
    [
        (
            "clip_vision_model",
            {"image_size": 36},
            "image size 36: expected a multiple of the encoder's 8",
        ),
        ("convnext", {"image_size": 48}, "image size 48: expected a multiple of the encoder's 32"),
        ("clip_vision_model", {"layer": 4}, "layer 4: expected one of the encoder's 4 layers"),
        ("clip_vision_model", {"layer": -5}, "layer -5: expected one of the encoder's 4 layers"),
        (
            "clip_vision_model",
            {"pyramid": ((9, 1.0),)},
            "layer 9: expected one of the encoder's 4 layers",
        ),
        ("clip_vision_model", {"pyramid": ((1, 0.0),)}, "magnification .* expected > 0, got 0"),
        ("convnext", {"layer": "last"}, "layer 'last': a convolutional encoder"),
        ("siglip_vision_model", {"class_token": True}, "siglip_vision_model has no class token"),
    ],
)
def test_impossible_encoder_configurations_are_refused(
    kind: str, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        vision_config(small_config(kind), **choices)


def test_unknown_kinds_and_wrong_canvases_are_refused() -> None:
    with pytest.raises(ModelError, match="unknown kind of image encoder 'llama'"):
        vision_config({"model_type": "llama"})
    with pytest.raises(ModelError, match="unknown kind of image encoder 'nothing'"):
        vision_config({"model_type": "nothing"})
    with pytest.raises(ModelError, match="canvas of 40x40: the encoder expects 32x32"):
        small_encoder("clip_vision_model")(canvases(1, 40))


def test_uneven_canvases_are_accepted_on_request() -> None:
    encoder = small_encoder("convnext", image_size=80, uneven=True)
    assert encoder.grids == (20, 10, 5, 2)
    assert [level.shape[-1] for level in encoder(canvases(1, 80)).pyramid] == [20, 10, 5, 2]
    for kind in ("siglip_vision_model", "siglip2_vision_model"):
        ragged = small_encoder(kind, image_size=35, uneven=True)
        assert ragged(canvases(1, 35)).tokens.shape == (1, 16, 32)


def test_every_family_is_a_model_of_transformers() -> None:
    assert sorted(FAMILIES) == KINDS
    assert all(hasattr(transformers, family.model) for family in FAMILIES.values())
