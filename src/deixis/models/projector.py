"""From visual width to the language model's width."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN

from deixis.errors import ModelError
from deixis.models.decoders.proposals import Proposals
from deixis.models.positions import BOX_CODE, box_code, sine_positions


class Projector(nn.Module):
    """Linear or GELU MLP, for image tokens and, where they share it, regions (REF-VLM IV-A).

    Pink's is one layer without a bias (4.1: 4,194,304 for 1024 to 4096), u-LLaVA's one with a bias.

    LLaVA's may be without biases, and ``activation`` is a name of transformers.

    Raises:
        ModelError: There is no such activation.
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
    """The cells that decoders attend to, some by some, as image tokens, row by row.

    What a language model shall say about an image then rests on features that every unit, and
    every word of `concept_loss`, has shaped. Places are added after the projection, which is
    normalised: what is large would drown the other.
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
        """Give a token for each ``merge`` x ``merge`` cells."""
        normed = self.norm(cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        merged = functional.pixel_unshuffle(normed, self.merge).flatten(2).transpose(1, 2)
        grid, width = cells.shape[-1] // self.merge, cells.shape[1]
        places = self.place(
            sine_positions(grid, width, device=cells.device, dtype=self.place.weight.dtype)
        )
        return self.out(self.projector(merged)) + places


class ObjectProjector(nn.Module):
    """The most likely instances of an image as tokens, from left to right, then the image in 4 x 4.

    A token holds what the cells of an instance hold and where its box lies. Counting, naming and
    comparing instances is then a matter of a few tokens instead of a picture of them.
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
        """Give ``objects`` tokens of instances and 16 of the whole."""
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
