"""Random small encoders of every supported kind."""

from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig

from deixis.models.vision.pretrained import PretrainedEncoder, vision_config

VIT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
CONVNEXT: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
SMALL: dict[str, dict[str, Any]] = {
    "blip_2_vision_model": VIT,
    "clip_vision_model": VIT,
    "convnext": {**CONVNEXT, "image_size": 64},
    "convnextv2": {**CONVNEXT, "image_size": 64},
    "dinov2": VIT,
    "dinov2_with_registers": VIT,
    "dinov3_convnext": {**CONVNEXT, "image_size": 64},
    "dinov3_vit": {**VIT, "num_register_tokens": 2},
    "instructblip_vision_model": VIT,
    "siglip2_vision_model": {**VIT, "num_patches": 16},
    "siglip_vision_model": VIT,
    "vit": VIT,
}
MAPS = ("convnext", "convnextv2", "dinov3_convnext")


def small_config(model_type: str, **changes: Any) -> PreTrainedConfig:
    fields = {**SMALL[model_type], **changes}
    if model_type == "siglip2_vision_model":
        fields.pop("image_size")
    return AutoConfig.for_model(model_type, **fields)


def small_encoder(model_type: str, *, seed: int = 0, **choices: Any) -> PretrainedEncoder:
    torch.manual_seed(seed)
    encoder = PretrainedEncoder(vision_config(small_config(model_type), **choices))
    with torch.no_grad():
        for parameter in encoder.parameters():
            # initial layer scales and positions would hide the effect of a layer
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.train(mode=False)


def canvases(count: int, size: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1
