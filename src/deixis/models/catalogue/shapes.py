"""Networks of the papers at their own shapes, as configurations and as modules without weights."""

from typing import Any

from torch import nn
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    LlamaConfig,
    LlamaForCausalLM,
    Sam2Config,
    SamConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
)

from deixis.models.adapters import ADAPTER_PRESETS, Adapter, insert_adapters
from deixis.models.decoders import DecoderConfig
from deixis.models.decoders.prompted import PromptedConfig, build_prompted
from deixis.models.regions import ConnectorConfig
from deixis.models.tuning import LoraChoice, Tuning, tune
from deixis.models.vision.merging import MergingVisionConfig
from deixis.models.vision.pretrained import PretrainedEncoder, PretrainedVisionConfig, vision_config
from deixis.models.vision.pyramid import PYRAMID_PRESETS, PyramidConfig

LANGUAGE = 4096
"""Width of LLaMA and Vicuna 7B."""

VISUAL = 1024
"""Width of CLIP ViT-L/14."""

LEVELS = (192, 384, 768, VISUAL)
"""Channels of REF-VLM's features 0, 1, 2 and 4."""

BOXES, MASKS = DecoderConfig.refvlm("box"), DecoderConfig.refvlm("mask")
"""Shapes of REF-VLM's decoders (public code); the paper does not state them."""

_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": VISUAL,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
_EVA = {
    "model_type": "blip_2_vision_model",
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
_CONVNEXT = {
    "model_type": "convnext",
    "hidden_sizes": [192, 384, 768, 1536],
    "depths": [3, 3, 27, 3],
    "image_size": 224,
}
_SAM_HUGE = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "global_attn_indexes": [7, 15, 23, 31],
}


def clip(image_size: int = 224) -> PretrainedVisionConfig:
    """CLIP ViT-L/14."""
    return vision_config({**_CLIP, "image_size": image_size})


def eva() -> PretrainedVisionConfig:
    """EVA-CLIP g/14, as in BLIP-2."""
    return vision_config(_EVA, layer=-1)


def convnext(image_size: int = 512) -> PretrainedVisionConfig:
    """CLIP ConvNeXt-L."""
    return vision_config(_CONVNEXT, image_size=image_size)


def pyramid(preset: str = "refvlm") -> PyramidConfig:
    """A row of REF-VLM's Table XI."""
    chosen = PYRAMID_PRESETS[preset]
    return PyramidConfig(clip(336), convnext(chosen.convolution_size), chosen.index)


def merging() -> MergingVisionConfig:
    """The vision model of Qwen2-VL, for a language model of width 3584."""
    return MergingVisionConfig({"model_type": "qwen2_vl_vision"}, 448)


def language_model() -> LlamaForCausalLM:
    """LLaMA 7B, whose shape Vicuna 7B and LLaMA-2 7B share."""
    return LlamaForCausalLM(LlamaConfig())


def vision_adapters(preset: str) -> dict[str, Adapter]:
    """Pink's adapters in CLIP; its public code drops those of the layer that is not read."""
    encoder = PretrainedEncoder(clip())
    skipped = 1 if preset == "code" else 0
    return insert_adapters(encoder, ADAPTER_PRESETS[preset], skip_last=skipped)


def language_adapters(preset: str) -> dict[str, Adapter]:
    """Pink's adapters in the language model."""
    return insert_adapters(language_model(), ADAPTER_PRESETS[preset])


def language_tuned(choice: Tuning) -> int:
    """Number of trainable parameters of the language model under a tuning."""
    return tune(language_model(), choice).trained


def ullava_lora() -> int:
    """Number of parameters of u-LLaVA's LoRA."""
    return language_tuned(Tuning("lora", lora=LoraChoice()))


def connector(box_encoder: Any = "mlp", *, text: bool = True) -> ConnectorConfig:
    """TAMP's connector with BERT-base as text encoder; the paper does not state its widths."""
    return ConnectorConfig(
        box_encoder=box_encoder, text_encoder={"model_type": "bert"} if text else None
    )


def sam_huge() -> SamConfig:
    """SAM ViT-H."""
    return SamConfig(vision_config=_SAM_HUGE)


def prompted(kind: str) -> nn.Module:
    """SAM ViT-H, as in u-LLaVA and REF-VLM, or SAM 2 Hiera-T, with the same projector."""
    config = sam_huge() if kind == "sam" else Sam2Config()
    return build_prompted(PromptedConfig(segmenter=config.to_dict()), LANGUAGE)


def detector() -> nn.Module:
    """GroundingDINO Swin-T."""
    return GroundingDinoForObjectDetection(GroundingDinoConfig())


def pose_estimator() -> nn.Module:
    """ViTPose-B."""
    return VitPoseForPoseEstimation(VitPoseConfig())
