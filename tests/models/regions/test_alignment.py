"""Stage 1 of TAMP, compared with its equations."""

import pytest
import torch
from region_batches import TEXT_ENCODERS, context, mixed_regions, texts
from torch.nn import functional

from deixis.batch import RegionTruth
from deixis.models.regions import ConnectorConfig, RegionAlignment, RegionConnector
from deixis.models.regions.alignment import (
    AlignmentConfig,
    BoxHead,
    location_loss,
)
from deixis.structures import RegionType

WIDTH = 16
CONFIG = ConnectorConfig(width=WIDTH, hidden=24, text_encoder=TEXT_ENCODERS["bert"])


def build(**options: object) -> tuple[RegionConnector, RegionAlignment]:
    torch.manual_seed(0)
    connector = RegionConnector(12, 20, CONFIG).eval()
    config = AlignmentConfig(**options)  # type: ignore[arg-type]  # checked by beartype
    return connector, RegionAlignment(WIDTH, config)


def known(boxes: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> RegionTruth:
    return RegionTruth(boxes, torch.ones(len(boxes), dtype=torch.bool), ids, mask)


def truth(count: int) -> torch.Tensor:
    low = torch.rand(count, 2, generator=torch.Generator().manual_seed(1)) / 2
    return torch.cat([low, low + 0.3], dim=1)


def test_location_loss_follows_the_equations() -> None:
    predicted = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.0, 0.0, 0.2, 0.2]])
    target = torch.tensor([[0.3, 0.1, 0.7, 0.5], [0.6, 0.6, 0.8, 0.8]])
    found = location_loss(predicted, target)
    # half overlap: IoU 1/3 and no gap in the hull; apart: IoU 0, 0.56 of the hull of 0.64 is empty
    smooth = [0.5 * 2 * 0.2**2 / 4, 0.5 * 4 * 0.6**2 / 4]
    giou = [1 / 3, -0.56 / 0.64]
    expected = [0.7 * s + 0.3 * (1 - g) for s, g in zip(smooth, giou, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    far = location_loss(torch.tensor([[0.0, 0.0, 3.0, 1.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    assert far.item() == pytest.approx(0.7 * (2 - 0.5) / 4 + 0.3 * (1 - 1 / 3), abs=1e-5)


def test_predicted_boxes_have_their_corners_in_order() -> None:
    boxes = BoxHead(WIDTH)(torch.randn(50, 2, WIDTH) * 10)
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_losses_are_means_over_the_regions_that_have_them() -> None:
    connector, alignment = build()
    seen, regions, boxes = context(12), mixed_regions(10), truth(10)
    ids, mask = texts(10, seed=4)
    mask[[2, 7]] = False
    losses = alignment(connector, seen, regions, known(boxes, ids, mask))
    features = connector.features(seen, regions).mean(1)
    described = regions.types == RegionType.TEXT.number
    predicted = alignment.box_head(features[described][:, None])
    torch.testing.assert_close(losses.location, location_loss(predicted, boxes[described]).mean())
    kept = mask.any(1)
    words = functional.normalize(connector.describe(ids[kept], mask[kept]), dim=-1)
    similarity = words @ functional.normalize(features[kept], dim=-1).T / 0.07
    expected = [
        -(each.diag().exp() / each.exp().sum(1)).log().mean() for each in (similarity, similarity.T)
    ]
    torch.testing.assert_close(losses.semantic, (expected[0] + expected[1]) / 2)
    torch.testing.assert_close(losses.total, losses.location + losses.semantic)


def test_order_of_regions_changes_no_loss() -> None:
    connector, alignment = build()
    regions, boxes, (ids, mask) = mixed_regions(10), truth(10), texts(10)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    first = alignment(connector, context(12), regions, known(boxes, ids, mask))
    second = alignment(
        connector, context(12), regions.select(order), known(boxes[order], ids[order], mask[order])
    )
    torch.testing.assert_close(first.total, second.total)
    torch.testing.assert_close(first.semantic, second.semantic)


@pytest.mark.parametrize("target", ["description", "query"])
@pytest.mark.parametrize("count", [0, 1, 5, 64])
def test_gradients_are_finite(target: str, count: int) -> None:
    connector, alignment = build(target=target)
    ids, mask = texts(count)
    regions = mixed_regions(count)
    losses = alignment(connector, context(12), regions, known(truth(count), ids, mask))
    losses.total.backward()
    for module in (connector, alignment):
        assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    if not count:
        assert losses.total.item() == 0


def test_regions_without_a_description_are_not_paired() -> None:
    connector, alignment = build()
    regions = mixed_regions(4)
    ids, mask = texts(4)
    losses = alignment(connector, context(12), regions, known(truth(4), ids, mask & False))
    losses.total.backward()
    assert losses.total.item() == 0
    query = build(target="query")[1]
    assert query(connector, context(12), regions, known(truth(4), ids, mask)).total.item() == 0


def test_text_features_can_be_detached() -> None:
    regions, (ids, mask) = mixed_regions(4), texts(4)
    moved = {}
    for detach in (False, True):
        connector, alignment = build(detach=detach)
        alignment(connector, context(12), regions, known(truth(4), ids, mask)).total.backward()
        assert connector.text is not None
        moved[detach] = any(p.grad is not None for p in connector.text.parameters())
    assert moved == {False: True, True: False}


def test_a_connector_learns_to_find_described_instances() -> None:
    torch.manual_seed(0)
    connector, alignment = build(target="query")
    regions = mixed_regions(20)
    described = (regions.types == RegionType.TEXT.number).nonzero()[:, 0]
    regions, boxes = regions.select(described), truth(20)[described]
    parameters = [*connector.parameters(), *alignment.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    losses = []
    for _ in range(80):
        found = alignment(
            connector, context(12), regions, known(boxes, regions.text_ids, regions.text_mask)
        )
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        losses.append((found.location.item(), found.semantic.item()))
    assert losses[-1][0] < 0.4 * losses[0][0]
    assert losses[-1][1] < 0.4 * losses[0][1]


def test_autocast_to_bfloat16_works() -> None:
    connector, alignment = build()
    regions, (ids, mask) = mixed_regions(10), texts(10)
    exact = alignment(connector, context(12), regions, known(truth(10), ids, mask))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = alignment(connector, context(12), regions, known(truth(10), ids, mask))
    low.total.backward()
    assert low.total.item() == pytest.approx(exact.total.item(), rel=0.1)


def test_an_unknown_box_has_no_location_loss() -> None:
    connector, alignment = build()
    regions, boxes, (ids, mask) = mixed_regions(10), truth(10), texts(10)
    some = torch.arange(10) % 2 == 0
    whole = RegionTruth(boxes, some, ids, mask)
    other = RegionTruth(torch.where(some[:, None], boxes, boxes.flip(0)), some, ids, mask)
    first = alignment(connector, context(12), regions, whole)
    assert first.location == alignment(connector, context(12), regions, other).location
    assert first.location > 0
