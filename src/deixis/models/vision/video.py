"""Video tokens by pooling over time and over space (u-LLaVA, section 3.1)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deixis.errors import ModelError


@dataclass(frozen=True, slots=True)
class VideoPooling:
    """How frames become tokens, and the place of the video in a conversation.

    A video of T frames of N patches becomes T temporal tokens, each the mean of a frame's patches,
    and N spatial tokens, each the mean of a patch over the frames. ``order`` selects which come
    first, ``placement`` whether the video stands before or after the first question. ``num_frames``
    frames are sampled evenly; frames of a shorter video repeat.
    """

    order: Literal["temporal-spatial", "spatial-temporal"] = "temporal-spatial"
    placement: Literal["start", "end"] = "start"
    num_frames: int = 8

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ModelError(f"video num_frames: expected at least 1, got {self.num_frames}")

    def num_tokens(self, frames: int, patches: int) -> int:
        """Return the number of tokens of a video: 264 for 8 frames of 256 patches."""
        return frames + patches

    def pool(
        self,
        features: Float[Tensor, "b t n d"],
        frames: Bool[Tensor, "b t"] | None = None,
    ) -> tuple[Float[Tensor, "b tokens d"], Bool[Tensor, "b tokens"]]:
        """Pool features of frames into tokens.

        Args:
            features: Patch features of every frame.
            frames: Which frames are present; all by default. Absent frames do not affect valid
                tokens.

        Returns:
            The tokens, and which of them are valid. Temporal tokens of absent frames are zero and
            not valid.

        Raises:
            ModelError: A video has no frames.
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
"""The paper of u-LLaVA places videos before the question, its public code after it."""
