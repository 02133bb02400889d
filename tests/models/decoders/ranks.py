"""One of two ranks that train two decoders, of which only one rank uses the second.

Gradients are written to ``FOLDER/RANK.safetensors``.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deixis.models.decoders import PixelFeatures
from deixis.models.decoders.depth import DepthConfig, DepthDecoder, DepthTruth
from deixis.models.decoders.interface import Features
from deixis.models.decoders.keypoints import KeypointConfig, KeypointDecoder, KeypointTruth
from deixis.models.losses.scoring import tied_zero
from deixis.models.references import LatentReferences

WIDTH, LANGUAGE, PIXELS = 8, 6, 4
SHAPE: dict[str, Any] = {"width": WIDTH, "heads": 2, "hidden": 8, "layers": 1, "num_queries": 4}


class Shared(nn.Module):
    """Two decoders over one encoder; only rank 0 has truth for the second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.pixels = nn.Conv2d(3, PIXELS, 1)
        self.states = nn.Linear(LANGUAGE, LANGUAGE)
        self.keypoints = KeypointDecoder(KeypointConfig(**SHAPE, joint_layers=1), LANGUAGE)
        self.depth = DepthDecoder(DepthConfig(**SHAPE), LANGUAGE, PIXELS)

    def forward(self, images: Tensor, states: Tensor, depths: Tensor | None) -> Tensor:
        filled = torch.ones(states.shape[:2], dtype=torch.bool)
        asked = LatentReferences(self.states(states), filled, filled.long())
        given = Features(PixelFeatures(self.encoder(images), self.pixels(images)))
        count = filled.numel()
        known = torch.ones(count, dtype=torch.bool)
        dice = torch.Generator().manual_seed(1)
        truth = KeypointTruth(
            torch.rand(count, 17, 2, generator=dice),
            torch.full((count, 17), 2),
            torch.full((count,), 0.1),
            torch.rand(count, 4, generator=dice) * 0.3 + 0.3,
            known,
            torch.ones(count),
        )
        loss: Tensor = self.keypoints.losses(self.keypoints(asked, given), truth, filled).loss
        wanted = filled if depths is not None else torch.zeros_like(filled)
        routed = LatentReferences(asked.states, wanted, asked.turns)
        values = torch.zeros(0, 16, 16) if depths is None else depths
        maps = DepthTruth(
            values,
            torch.zeros(len(values)) > 0,
            torch.ones(len(values)) > 0,
            torch.ones(len(values)),
        )
        loss = loss + self.depth.losses(self.depth(routed, given), maps, wanted).loss
        # inputs of that decoder alone have no gradient if it has no truth
        return loss + tied_zero(self.pixels)


def batch_of(rank: int) -> tuple[Tensor, Tensor, Tensor | None]:
    dice = torch.Generator().manual_seed(10 + rank)
    images = torch.randn(2, 3, 16, 16, generator=dice)
    states = torch.randn(2, 2, LANGUAGE, generator=dice)
    return images, states, torch.rand(4, 16, 16, generator=dice) * 8 + 1 if rank == 0 else None


def main(rank: int, folder: Path) -> None:
    """Train one step as one of two ranks."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2
    )
    model = Shared()
    wrapped = nn.parallel.DistributedDataParallel(model)
    wrapped(*batch_of(rank)).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    save_file(gradients, folder / f"{rank}.safetensors")
    # otherwise one rank ends while the other still waits for it
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
