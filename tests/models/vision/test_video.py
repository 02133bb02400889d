import pytest
import torch
from closeness import assert_same_outputs

from deixis.errors import ModelError
from deixis.models.vision.video import VIDEO_PRESETS, VideoPooling


def features(batch: int, frames: int, patches: int, width: int = 6) -> torch.Tensor:
    return torch.randn(
        batch, frames, patches, width, generator=torch.Generator().manual_seed(frames)
    )


def brute_force(video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    frames, patches, width = video.shape
    temporal, spatial = torch.zeros(frames, width), torch.zeros(patches, width)
    for frame in range(frames):
        for patch in range(patches):
            temporal[frame] += video[frame, patch] / patches
            spatial[patch] += video[frame, patch] / frames
    return temporal, spatial


def test_eight_frames_of_256_patches_are_264_tokens() -> None:
    for pooling in VIDEO_PRESETS.values():
        tokens, valid = pooling.pool(features(2, 8, 256))
        assert tokens.shape == (2, 264, 6)
        assert valid.shape == (2, 264)
        assert valid.all()
        assert pooling.num_tokens(8, 256) == 264


@pytest.mark.parametrize("order", ["temporal-spatial", "spatial-temporal"])
def test_tokens_are_means_over_patches_and_over_frames(order: str) -> None:
    video = features(3, 4, 9)
    pooling = VideoPooling(order=order)  # type: ignore[arg-type]  # both are names of orders
    tokens, _ = pooling.pool(video)
    for mine, one in zip(tokens, video, strict=True):
        parts = brute_force(one)
        if order == "spatial-temporal":
            parts = parts[::-1]
        assert torch.allclose(mine, torch.cat(parts), atol=1e-6)


def test_absent_frames_have_no_influence() -> None:
    video = features(2, 5, 4)
    present = torch.tensor([[True, True, True, False, False], [True] * 5])
    tokens, valid = VideoPooling().pool(video, present)
    noisy = video.clone()
    noisy[0, 3:] = float("nan")
    again, _ = VideoPooling().pool(noisy, present)
    assert_same_outputs(tokens, again)
    alone, _ = VideoPooling().pool(video[:1, :3])
    assert torch.allclose(tokens[0][valid[0]], alone[0], atol=1e-6)
    assert not tokens[0, 3:5].any()
    assert valid[0].tolist() == [True] * 3 + [False] * 2 + [True] * 4


def test_the_order_of_frames_changes_temporal_tokens_only() -> None:
    video = features(1, 4, 3)
    order = torch.tensor([2, 0, 3, 1])
    tokens, _ = VideoPooling().pool(video)
    moved, _ = VideoPooling().pool(video[:, order])
    assert torch.allclose(moved[:, :4], tokens[:, :4][:, order])
    assert torch.allclose(moved[:, 4:], tokens[:, 4:], atol=1e-6)


def test_gradients_are_finite_and_reach_every_present_frame() -> None:
    video = features(1, 3, 2).requires_grad_()
    tokens, _ = VideoPooling().pool(video, torch.tensor([[True, False, True]]))
    tokens.square().sum().backward()
    assert video.grad is not None
    assert torch.isfinite(video.grad).all()
    assert video.grad[0, 0].abs().sum() > 0
    assert not video.grad[0, 1].any()


def test_half_precision_stays_half_precision() -> None:
    tokens, _ = VideoPooling().pool(features(1, 2, 2).bfloat16())
    assert tokens.dtype == torch.bfloat16


def test_a_video_without_frames_is_refused() -> None:
    with pytest.raises(ModelError, match="at least one frame"):
        VideoPooling().pool(features(2, 2, 2), torch.tensor([[True, False], [False, False]]))
    with pytest.raises(ModelError, match="at least one frame"):
        VideoPooling().pool(torch.zeros(1, 0, 2, 6))


def test_a_pooling_of_no_frames_is_refused() -> None:
    with pytest.raises(ModelError, match="num_frames: expected at least 1, got 0"):
        VideoPooling(num_frames=0)
