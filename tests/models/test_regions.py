import pytest
import torch

from deixis.errors import ModelError
from deixis.models.regions import MaskGuidedAggregation


def brute_force(features: torch.Tensor, mask: torch.Tensor, side: int) -> torch.Tensor:
    """Sum features under a normalised mask, block by block."""
    channels, height, width = features.shape
    out = torch.zeros(side * side, channels)
    for row in range(height):
        for column in range(width):
            block = (row // (height // side)) * side + column // (width // side)
            out[block] += features[:, row, column] * mask[row, column] / mask.sum()
    return out


def test_aggregation_sums_blocks_of_a_true_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 6, 6, generator=generator)
    masks = torch.zeros(3, 6, 6)
    masks[0, 1:4, 2:5] = 1
    masks[1] = 1
    masks[2, 5, 0] = 1
    rows = torch.tensor([0, 1, 1])
    tokens = MaskGuidedAggregation(9, strength=0.0)(features, masks, rows)
    for token, mask, row in zip(tokens, masks, rows, strict=True):
        assert torch.allclose(token, brute_force(features[row], mask, 3), atol=1e-6)


def test_aggregation_keeps_a_region_smaller_than_a_cell() -> None:
    features = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(1, 64, 64)
    masks[0, 17, 50] = 1
    token = MaskGuidedAggregation(1, strength=0.0)(features, masks, torch.tensor([0]))
    assert torch.allclose(token[0, 0], features[0, :, 1, 3])


def test_positions_are_cosines_of_the_block_number() -> None:
    features, masks = torch.zeros(1, 4, 2, 2), torch.ones(1, 2, 2)
    tokens = MaskGuidedAggregation(4)(features, masks, torch.tensor([0]))[0]
    expected = torch.cos(torch.arange(4)[:, None] / 10_000 ** (torch.arange(4) * 2 / 4))
    assert torch.allclose(tokens, expected)


def test_region_tokens_must_form_a_square() -> None:
    with pytest.raises(ModelError, match="expected a square number, got 5"):
        MaskGuidedAggregation(5)
