"""Projectors from the width of visual features to the width of the language model."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN

from deixis.errors import ModelError
from deixis.models.decoders.proposals import Proposals
from deixis.models.positions import BOX_CODE, box_code, sine_positions


class Projector(nn.Module):
    """A linear map or GELU MLP for image tokens and, if shared, region tokens (REF-VLM IV-A).

    Pink uses one layer without bias (4.1: 4,194,304 parameters for 1024 to 4096), u-LLaVA one with
    bias. LLaVA's may have no biases. ``activation`` is a name of transformers.

    Raises:
        ModelError: The activation is unknown.
    """

    def __init__(
        self,
        visual_width: int,
        language_width: int,
        *,
        layers: int = 2,
        bias: bool = True,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        if activation not in ACT2FN:
            raise ModelError(
                f"projector with activation {activation!r}: expected one of {sorted(ACT2FN)}"
            )
        blocks: list[nn.Module] = [nn.Linear(visual_width, language_width, bias=bias)]
        for _ in range(layers - 1):
            between = nn.GELU() if activation == "gelu" else ACT2FN[activation]
            blocks += [between, nn.Linear(language_width, language_width, bias=bias)]
        self.layers = nn.Sequential(*blocks)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.parameters()).dtype

    def forward(self, features: Float[Tensor, "*n visual"]) -> Float[Tensor, "*n language"]:
        """Map visual features to the language model's width."""
        return self.layers(features)


class CellProjector(nn.Module):
    """Project the cells that decoders attend to as image tokens, several cells per token, by row.

    The language model then reads the same features that the losses of units and `concept_loss`
    train. Positions are added after the normalised projection, so that neither dominates the other.
    """

    MERGE = 2

    def __init__(self, cell_width: int, language_width: int, *, merge: int = MERGE) -> None:
        super().__init__()
        self.merge = merge
        self.norm = nn.LayerNorm(cell_width)
        self.projector = Projector(merge**2 * cell_width, language_width)
        self.out = nn.LayerNorm(language_width)
        self.place = nn.Linear(cell_width, language_width, bias=False)

    def forward(self, cells: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Return a token for each square of ``merge`` x ``merge`` cells, in row-major order."""
        normed = self.norm(cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        merged = functional.pixel_unshuffle(normed, self.merge).flatten(2).transpose(1, 2)
        grid, width = cells.shape[-1] // self.merge, cells.shape[1]
        places = self.place(
            sine_positions(grid, width, device=cells.device, dtype=self.place.weight.dtype)
        )
        return self.out(self.projector(merged)) + places


class ObjectProjector(nn.Module):
    """Tokens of the most likely instances of an image, from left to right, then 4 x 4 image tokens.

    An instance token encodes the features of its cells and its box. Counting, naming and comparing
    instances then involves a few tokens instead of the whole feature map.
    """

    GRID = 4

    def __init__(
        self, cell_width: int, language_width: int, *, cell_grid: int, objects: int
    ) -> None:
        super().__init__()
        self.objects = objects
        self.norm = nn.LayerNorm(cell_width)
        self.projector = Projector(cell_width + BOX_CODE, language_width)
        self.out = nn.LayerNorm(language_width)
        self.sureness = nn.Linear(1, language_width)
        self.whole = CellProjector(cell_width, language_width, merge=cell_grid // self.GRID)

    def forward(
        self, cells: Float[Tensor, "b c h w"], proposals: Proposals
    ) -> Float[Tensor, "b n d"]:
        """Return ``objects`` instance tokens and 16 tokens of the whole image."""
        chosen = proposals.objects(self.objects)
        features = cells.flatten(2).transpose(1, 2)
        looks = self.norm(features.gather(1, chosen[..., None].expand(-1, -1, features.shape[2])))
        boxes = proposals.at(chosen)[0].detach()
        sure = proposals.objectness.detach().sigmoid().gather(1, chosen)[..., None]
        instances = self.out(
            self.projector(torch.cat([looks, box_code(boxes).to(looks.dtype)], dim=-1))
        )
        instances = instances * sure.to(instances.dtype)
        instances = instances + self.sureness(sure.to(instances.dtype))
        return torch.cat([instances, self.whole(cells)], dim=1)
