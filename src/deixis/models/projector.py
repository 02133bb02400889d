"""From visual width to the language model's width."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from deixis.models.positions import sine_positions


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


class CellProjector(nn.Module):
    """The cells that decoders attend to, two by two, as image tokens, row by row.

    What a language model shall say about an image then rests on features that every unit, and
    every word of `concept_loss`, has shaped. Places are added after the projection, small: they
    are the same for every image, and must not drown what is not.
    """

    def __init__(self, cell_width: int, language_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cell_width)
        self.projector = Projector(4 * cell_width, language_width)
        self.place = nn.Linear(cell_width, language_width, bias=False)

    def forward(self, cells: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Give a token for each 2 x 2 cells."""
        normed = self.norm(cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        merged = functional.pixel_unshuffle(normed, 2).flatten(2).transpose(1, 2)
        grid, width = cells.shape[-1] // 2, cells.shape[1]
        places = self.place(sine_positions(grid, width, device=cells.device))
        return self.projector(merged) + 0.3 * places
