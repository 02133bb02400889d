"""From visual width to the language model's width."""

from jaxtyping import Float
from torch import Tensor, nn


class Projector(nn.Module):
    """Linear or two-layer GELU MLP, shared by image and region tokens (REF-VLM III-C)."""

    def __init__(self, visual_width: int, language_width: int, *, layers: int = 2) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Linear(visual_width, language_width)]
        for _ in range(layers - 1):
            blocks += [nn.GELU(), nn.Linear(language_width, language_width)]
        self.layers = nn.Sequential(*blocks)

    def forward(self, features: Float[Tensor, "*n visual"]) -> Float[Tensor, "*n language"]:
        """Map visual features to the language model's width."""
        return self.layers(features)
