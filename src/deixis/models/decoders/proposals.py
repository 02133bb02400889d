"""Units from single cells: every cell says what box and mask the thing it shows would have."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.models.decoders.layers import MultiLayerPerceptron
from deixis.models.losses import paired_iou, to_corners
from deixis.models.positions import cell_centres

BELL_STEEPNESS = 4.0


@dataclass(frozen=True, slots=True)
class Election:
    """The cell that a reference's unit starts from, and the share of the attention behind it."""

    cells: Int[Tensor, "b q"]
    votes: Float[Tensor, "b q"]


@dataclass(frozen=True, slots=True)
class Proposals:
    """A box (cxcywh in [0, 1] of the canvas) and a mask embedding for each cell.

    The last number of an embedding is its bias. What a cell without a thing proposes means
    nothing.
    """

    boxes: Float[Tensor, "b cells 4"]
    embeddings: Float[Tensor, "b cells _p"]

    @torch.no_grad()
    def elect(self, logits: Float[Tensor, "b q cells"]) -> Election:
        """Choose a cell for each reference: the one whose box most of the attention agrees on.

        A cell's votes are the attention of all cells, each by the IoU of its box with the cell's
        own, so that a thing of many cells does not lose to one cell of another.
        """
        weights = logits.float().softmax(-1)
        corners = to_corners(self.boxes.float())
        agreement, _ = paired_iou(corners[:, :, None], corners[:, None])
        votes = weights @ agreement
        return Election(votes.argmax(-1), votes.amax(-1))

    def at(
        self, cells: Int[Tensor, "b q"]
    ) -> tuple[Float[Tensor, "b q 4"], Float[Tensor, "b q _p"]]:
        """Boxes and embeddings of the chosen cells."""
        boxes = self.boxes.gather(1, cells[..., None].expand(-1, -1, 4))
        width = self.embeddings.shape[-1]
        return boxes, self.embeddings.gather(1, cells[..., None].expand(-1, -1, width))


class ProposalHead(nn.Module):
    """Learn units from every annotated thing of every image, asked about or not.

    A reference then has to choose a cell only, which takes far fewer questions to learn than
    boxes and masks do. FCOS and CondInst learn their units in this way; `Anchor` makes the
    choice.
    """

    def __init__(self, cell_width: int, pixel_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cell_width)
        self.box = MultiLayerPerceptron(cell_width, 4)
        self.embedding = MultiLayerPerceptron(cell_width, pixel_width + 1)

    def forward(self, cells: Float[Tensor, "b d h w"]) -> Proposals:
        """Propose a box and a mask embedding for each cell."""
        states = self.norm(cells.flatten(2).transpose(1, 2))
        numbers = self.box(states).float()
        centres = cell_centres(cells.shape[-1], device=cells.device) + numbers[..., :2]
        boxes = torch.cat([centres, numbers[..., 2:].sub(1.5).sigmoid()], dim=-1)
        return Proposals(boxes, self.embedding(states))


def outside_penalty(boxes: Float[Tensor, "*n 4"], grid: int) -> Float[Tensor, "*n grid grid"]:
    """How much a mask logit loses outside a box (cxcywh): nothing inside, at most 30 far away."""
    ticks = (torch.arange(grid, device=boxes.device) + 0.5) / grid
    half = (boxes[..., 2:] / 2).clamp(min=1 / grid)
    over_x = functional.relu((ticks - boxes[..., 0:1]).abs() / half[..., 0:1] - 1)
    over_y = functional.relu((ticks - boxes[..., 1:2]).abs() / half[..., 1:2] - 1)
    far = (over_x.square()[..., None, :] + over_y.square()[..., :, None]) * BELL_STEEPNESS**2
    return far.clamp(max=30.0)
