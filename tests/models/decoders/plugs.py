"""GroundingDINO and ViTPose of transformers at tiny size, with random weights."""

from pathlib import Path
from typing import Any

import torch
from models.decoders.segmenters import livelier
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    SwinConfig,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
    VitPoseImageProcessorPil,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "red", "dog", "##s", "left"]


def save_detector(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    processor: Any = GroundingDinoImageProcessorPil(
        size={"shortest_edge": 128, "longest_edge": 160}, pad_size=None
    )
    # configurations take more than their annotations tell
    swin: Any = SwinConfig
    backbone = swin(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        out_indices=[2, 3, 4],
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=12,
        max_text_len=16,
    )
    torch.manual_seed(0)
    livelier(GroundingDinoForObjectDetection(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)


def save_pose(folder: Path, joints: int) -> None:
    vit: Any = VitPoseBackboneConfig
    pose: Any = VitPoseConfig
    backbone = vit(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=[64, 48],
        patch_size=[16, 16],
        mlp_ratio=2,
        out_features=["stage1"],
    )
    config = pose(
        backbone_config=backbone, num_labels=joints, use_simple_decoder=True, scale_factor=4
    )
    torch.manual_seed(0)
    livelier(VitPoseForPoseEstimation(config)).save_pretrained(folder)
    processor: Any = VitPoseImageProcessorPil(size={"height": 64, "width": 48})
    processor.save_pretrained(folder)
