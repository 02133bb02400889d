from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from deixis.models.losses.boxes import paired_iou, to_corners
from deixis.models.matching import (
    UNMATCHED,
    assign_groups,
    match_groups,
    pairwise_box_cost,
    reorder_groups,
)


def random_boxes(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    extent = torch.rand(*shape, 2, generator=generator) * 0.5 + 0.01
    return torch.cat([torch.rand(*shape, 2, generator=generator), extent], dim=-1)


def test_matching_finds_the_cheapest_permutation_of_every_group() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = np.array([1, 2, 3, 5, 4])
    cost = torch.rand(len(sizes), 5, 5, generator=generator)
    for square, size, match in zip(cost, sizes, match_groups(cost, sizes), strict=True):
        each = {
            order: sum(float(square[i, j]) for i, j in enumerate(order))
            for order in permutations(range(size))
        }
        assert sorted(match.tolist()) == list(range(size))
        assert each[tuple(match.tolist())] <= min(each.values()) + 1e-6


def test_matching_reads_nothing_past_a_groups_size() -> None:
    cost = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(1))
    spoiled = cost.clone()
    spoiled[0, 2:], spoiled[0, :, 2:] = -100.0, torch.nan
    sizes = np.array([2, 4])
    before, after = match_groups(cost, sizes), match_groups(spoiled, sizes)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


@st.composite
def batches(
    draw: st.DrawFn, *, square: bool
) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.random.Generator]:
    """Return a batch of groups; few distinct costs cause ties."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, most = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    sizes = generator.integers(0, most + 1, count)
    targets = sizes if square else generator.integers(0, most + 1, count)
    levels = draw(st.sampled_from([1, 2, 3, 1000]))
    cost = generator.integers(-levels, levels + 1, (count, most, most)).astype(np.float32)
    return torch.from_numpy(cost), sizes, targets, generator


def total(cost: torch.Tensor, taken: np.ndarray) -> float:
    return sum(float(row[column]) for row, column in zip(cost, taken, strict=True) if column >= 0)


@settings(deadline=None, max_examples=150)
@given(batches(square=False))
def test_assignments_cost_the_same_as_those_of_scipy(
    batch: tuple[torch.Tensor, np.ndarray, np.ndarray, np.random.Generator],
) -> None:
    cost, sizes, targets, _ = batch
    taken = assign_groups(cost, sizes, targets)
    for table, size, width, row in zip(cost, sizes, targets, taken, strict=True):
        matched = row[row != UNMATCHED]
        assert (row[size:] == UNMATCHED).all()
        assert len(matched) == min(size, width)
        assert len(set(matched.tolist())) == len(matched)
        assert (matched < width).all()
        inner = table[:size, :width].numpy()
        rows, columns = linear_sum_assignment(inner)
        assert total(table, row) == inner[rows, columns].sum()


@settings(deadline=None, max_examples=60)
@given(batches(square=True))
def test_cost_does_not_depend_on_the_order_of_members_or_groups(
    batch: tuple[torch.Tensor, np.ndarray, np.ndarray, np.random.Generator],
) -> None:
    cost, sizes, _, generator = batch
    before = [
        total(table, row) for table, row in zip(cost, assign_groups(cost, sizes), strict=True)
    ]
    shuffled = cost.clone()
    for index, size in enumerate(sizes.tolist()):
        rows, columns = generator.permutation(size), generator.permutation(size)
        shuffled[index, :size, :size] = cost[index][rows][:, columns]
    groups = generator.permutation(len(sizes))
    taken = assign_groups(shuffled[groups], sizes[groups])
    after = [total(table, row) for table, row in zip(shuffled[groups], taken, strict=True)]
    assert after == [before[index] for index in groups]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_costs_that_are_not_finite_are_chosen_last(size: int, wrong: float) -> None:
    cost = 1 - torch.eye(size)[None]
    cost[0, 0, 0] = wrong
    (row,) = match_groups(cost, np.array([size]))
    assert sorted(row.tolist()) == list(range(size))
    assert row[0] != 0


def test_box_cost_equals_that_of_single_pairs() -> None:
    predicted, target = random_boxes(4, 5, seed=0), random_boxes(4, 7, seed=1)
    target[0, 0] = predicted[0, 0]
    first, second = predicted[:, :, None], target[:, None]
    giou = paired_iou(to_corners(first), to_corners(second))[1]
    expected = 5 * (first - second).abs().sum(-1) + 2 * (1 - giou)
    cost = pairwise_box_cost(predicted, target, l1=5, giou=2)
    assert torch.allclose(cost, expected, atol=1e-5)
    assert cost[0, 0, 0] == pytest.approx(0, abs=1e-5)


def test_references_get_their_target_and_ungrouped_ones_keep_their_own() -> None:
    members = torch.tensor([[4, 1, 2], [0, 5, -1]])
    taken = np.array([[2, 0, 1], [1, 0, UNMATCHED]])
    assert reorder_groups(members, taken, 7).tolist() == [5, 4, 1, 3, 2, 0, 6]


def test_no_groups_give_an_empty_result() -> None:
    empty = torch.zeros(0, 3, 3)
    assert match_groups(empty, np.zeros(0, dtype=np.int64)) == []
    taken = assign_groups(empty, np.zeros(0, dtype=np.int64))
    order = reorder_groups(torch.zeros(0, 3, dtype=torch.long), taken, 2)
    assert order.tolist() == [0, 1]
