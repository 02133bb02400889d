"""SAM and SAM 2 of transformers at tiny size, with random weights."""

from typing import Any

import torch
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

SIDE, WIDTH = 64, 16
_DECODER: dict[str, Any] = {
    "hidden_size": WIDTH,
    "mlp_dim": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": WIDTH,
}


def tiny_sam(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    vision = SamVisionConfig(
        hidden_size=16,
        output_channels=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
        window_size=2,
        global_attn_indexes=[1],
        num_pos_feats=WIDTH // 2,
        mlp_dim=24,
        initializer_range=0.02,
    )
    prompts = SamPromptEncoderConfig(hidden_size=WIDTH, image_size=SIDE, patch_size=16)
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config=prompts,
        mask_decoder_config=SamMaskDecoderConfig(**_DECODER),
    )
    return livelier(SamModel(config))


def tiny_sam2(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=WIDTH,
    )
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config=Sam2PromptEncoderConfig(
            hidden_size=WIDTH, image_size=SIDE, patch_size=16
        ),
        mask_decoder_config=Sam2MaskDecoderConfig(**_DECODER),
    )
    return livelier(Sam2Model(config))


def livelier(model: Any) -> Any:
    """Random weights of a size at which outputs differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model.eval()
