import pytest
import torch
from torch.nn import functional

from deixis.geometry import box_iou, convert_boxes, generalized_box_iou
from deixis.models.losses import masks
from deixis.models.losses.boxes import box_loss, paired_iou, to_corners
from deixis.models.losses.language import language_loss
from deixis.structures import IGNORE_INDEX


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator)
    extent = torch.rand(count, 2, generator=generator) * 0.5 + 0.01
    return torch.cat([centre, extent], dim=1)


def test_paired_iou_equals_the_geometry_layer() -> None:
    first, second = (to_corners(random_boxes(20, seed)) for seed in (0, 1))
    iou, giou = paired_iou(first, second)
    a, b = first.double().numpy(), second.double().numpy()
    assert iou.numpy() == pytest.approx(box_iou(a, b).diagonal(), abs=1e-5)
    assert giou.numpy() == pytest.approx(generalized_box_iou(a, b).diagonal(), abs=1e-5)


def test_corners_are_those_of_the_geometry_layer() -> None:
    boxes = random_boxes(20, 3)
    expected = convert_boxes(boxes.double().numpy(), "cxcywh", "xyxy")
    assert to_corners(boxes).numpy() == pytest.approx(expected, abs=1e-6)


def test_masks_are_scored_alike_however_many_at_a_time() -> None:
    """Three masks are more than are scored together; the same ones alone are not."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 4, generator=generator).requires_grad_()
    target = (torch.rand(3, 700, 700, generator=generator) > 0.5).float()
    extents = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2 + [[0.0, 0.25, 1.0, 0.75]])
    assert masks.PIXELS_AT_ONCE // 700**2 == 2
    together = masks.mask_losses(logits, target, extents)
    parts = [slice(at, at + 1) for at in range(3)]
    alone = [masks.mask_losses(logits[at], target[at], extents[at]) for at in parts]
    for whole, pieces in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.allclose(whole, torch.cat(pieces), atol=1e-6)
    (gradient,) = torch.autograd.grad(together[0].sum() + together[1].sum(), logits)
    assert (gradient.abs().sum((1, 2)) > 0).all()


def test_box_loss_is_zero_for_equal_boxes_and_has_finite_gradients_for_far_ones() -> None:
    boxes = random_boxes(5, 2)
    distance, overlap = box_loss(boxes, boxes)
    assert distance.abs().max() == 0
    assert overlap.abs().max() < 1e-5
    far = (boxes + 5).requires_grad_()
    torch.stack(box_loss(far, boxes)).sum().backward()
    assert far.grad is not None
    assert torch.isfinite(far.grad).all()


def test_focal_loss_without_focus_is_half_the_cross_entropy() -> None:
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    target = (torch.rand(3, 7, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    plain = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(-1)
    assert torch.allclose(masks.focal_loss(logits, target, alpha=0.5, gamma=0.0), plain / 2)


def test_dice_loss_counts_overlap() -> None:
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    sure = torch.tensor([[40.0, 40.0, -40.0, -40.0]])
    assert masks.dice_loss(sure, target).item() == pytest.approx(0.0)
    assert masks.dice_loss(-sure, target).item() == pytest.approx(1 - 1 / 5)


def test_language_loss_equals_full_logits_with_ignored_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(6, 11)
    hidden = torch.randn(2, 9, 6, generator=generator)
    labels = torch.randint(0, 11, (2, 9), generator=generator)
    labels[:, :4] = IGNORE_INDEX
    full = functional.cross_entropy(
        head(hidden[:, :-1]).flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
    )
    assert torch.allclose(language_loss(head, hidden, labels), full)
    weights = torch.ones(2, 9)
    assert torch.allclose(language_loss(head, hidden, labels, weights), full)


def test_language_loss_without_labels_is_zero_and_not_nan() -> None:
    labels = torch.full((1, 5), IGNORE_INDEX)
    assert language_loss(torch.nn.Linear(4, 3), torch.randn(1, 5, 4), labels).item() == 0


def test_language_loss_of_half_precision_is_in_float32_with_and_without_labels() -> None:
    head = torch.nn.Linear(4, 3).bfloat16()
    states = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    for label in (IGNORE_INDEX, 1):
        loss = language_loss(head, states, torch.full((1, 5), label))
        assert loss.dtype == torch.float32
