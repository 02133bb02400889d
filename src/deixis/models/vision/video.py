"""Videos as tokens: u-LLaVA's pooling over time and over space (section 3.1 of its paper)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deixis.errors import ModelError


@dataclass(frozen=True, slots=True)
class VideoPooling:
    """How frames become tokens, and where in a question they stand.

    A video of T frames of N patches becomes T tokens, each the mean of a frame's patches, and N
    tokens, each the mean of a patch over the frames. ``order`` says which of both come first,
    ``placement`` whether the video stands before or after the first question. ``num_frames`` is how
    many frames are looked at, spread evenly; of a shorter video some more than once.
    """

    order: Literal["temporal-spatial", "spatial-temporal"] = "temporal-spatial"
    placement: Literal["start", "end"] = "start"
    num_frames: int = 8

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ModelError(f"video num_frames: expected at least 1, got {self.num_frames}")

    def num_tokens(self, frames: int, patches: int) -> int:
        """Tokens that a video of ``frames`` frames becomes: 264 for 8 frames of 256 patches."""
        return frames + patches

    def pool(
        self,
        features: Float[Tensor, "b t n d"],
        frames: Bool[Tensor, "b t"] | None = None,
    ) -> tuple[Float[Tensor, "b tokens d"], Bool[Tensor, "b tokens"]]:
        """Turn features of frames into tokens.

        Args:
            features: Patch features of every frame.
            frames: Which frames are there; all of them by default. What stands in the others
                has no influence on any token that is valid.

        Returns:
            The tokens, and which of them are valid: the temporal ones of absent frames are not,
            and they are zero.

        Raises:
            ModelError: A video has no frame.
        """
        batch, count, patches, _ = features.shape
        if frames is None:
            frames = torch.ones(batch, count, dtype=torch.bool, device=features.device)
        if not count or not bool(frames.any(1).all()):
            raise ModelError("a video needs at least one frame")
        present = torch.where(frames[:, :, None, None], features, torch.zeros_like(features))
        temporal = present.mean(2)
        number = frames.sum(1).to(features.dtype)
        spatial = present.sum(1) / number[:, None, None]
        always = torch.ones(batch, patches, dtype=torch.bool, device=features.device)
        if self.order == "spatial-temporal":
            return torch.cat([spatial, temporal], dim=1), torch.cat([always, frames], dim=1)
        return torch.cat([temporal, spatial], dim=1), torch.cat([frames, always], dim=1)


VIDEO_PRESETS: dict[str, VideoPooling] = {
    "code": VideoPooling(placement="end"),
    "paper": VideoPooling(),
}
"""u-LLaVA's paper has videos before the question, its public code after it."""
