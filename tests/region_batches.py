"""Random images with regions of every type on them, and text encoders of a few thousand weights."""

from typing import Any

import torch
from torch import Tensor

from deixis.batch import Regions
from deixis.models.regions import RegionContext
from deixis.structures import RegionType

IMAGES, GRID, FINE, WORDS = 3, 4, 16, 30

TEXT_ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {
        "model_type": "bert",
        "vocab_size": WORDS,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 24,
    },
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": WORDS,
        "dim": 16,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 24,
    },
    "t5": {
        "model_type": "t5",
        "vocab_size": WORDS,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 24,
        "num_layers": 1,
        "num_heads": 2,
    },
    "clip_text_model": {
        "model_type": "clip_text_model",
        "vocab_size": WORDS,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 24,
    },
}


def context(width: int, *, cell_width: int | None = None, seed: int = 0) -> RegionContext:
    generator = torch.Generator().manual_seed(seed)
    return RegionContext(
        cells=torch.randn(IMAGES, cell_width or width, GRID, GRID, generator=generator),
        tokens=torch.randn(IMAGES, GRID**2, width, generator=generator),
    )


def texts(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return token ids and masks of descriptions of 1 to 6 tokens, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, WORDS, (count, 6), generator=generator)
    lengths = torch.randint(1, 7, (count, 1), generator=generator)
    return ids, torch.arange(6) < lengths


def mixed_regions(count: int, *, seed: int = 0) -> Regions:
    """Return points, boxes, scribbles, masks and descriptions in turn, each on a random image."""
    generator = torch.Generator().manual_seed(seed)
    types = torch.arange(count) % len(RegionType)
    described = types == RegionType.TEXT.number
    corners = torch.randint(0, FINE // 2, (count, 2), generator=generator)
    ends = corners + torch.randint(1, FINE // 2, (count, 2), generator=generator)
    masks = torch.zeros(count, FINE, FINE)
    for mask, (left, top), (right, bottom) in zip(masks, corners, ends, strict=True):
        mask[top:bottom, left:right] = 1
    masks[described] = 0
    boxes = torch.cat([corners, ends], dim=1) / FINE
    ids, mask = texts(count, seed=seed)
    return Regions(
        rows=torch.randint(0, IMAGES, (count,), generator=generator),
        types=types,
        masks=masks,
        boxes=boxes.masked_fill(described[:, None], 0.0),
        text_ids=ids.masked_fill(~described[:, None], 0),
        text_mask=mask & described[:, None],
    )
