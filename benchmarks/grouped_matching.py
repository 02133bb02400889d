"""Matching references to truth inside groups: the whole batch at once, against one by one.

A batch is 64 images of 8 phrases of 12 references each: 512 groups, 6,144 boxes. Every way starts
from boxes and ends with the truth that each reference takes:

* ``grouped``: costs of all groups in one padded tensor, then `assign_groups`;
* ``one matrix``: the cost of every reference of the batch with every truth, then scipy on the
  diagonal blocks (what REF-VLM's public code does);
* ``per group``: a loop of cost and scipy.

The floor is scipy's compiled solver alone on the 512 finished tables. ``untrained`` boxes lie
anywhere, so that nearly no group is settled without it; ``trained`` ones lie near the truth.

Run: python benchmarks/grouped_matching.py [--images 64] [--groups 8] [--references 12]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from deixis.models.losses.boxes import paired_iou, to_corners
from deixis.models.matching import assign_groups, pairwise_box_cost, reorder_groups

L1, GIOU = 5.0, 2.0


def random_boxes(count: int, generator: torch.Generator) -> torch.Tensor:
    extent = torch.rand(count, 2, generator=generator) * 0.5 + 0.01
    return torch.cat([torch.rand(count, 2, generator=generator), extent], dim=1)


def cost_of_pairs(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The cost as the public code has it."""
    first, second = to_corners(predicted)[:, None], to_corners(target)[None]
    giou = paired_iou(first, second)[1]
    return L1 * torch.cdist(predicted, target, p=1) + GIOU * (1 - giou)


def grouped(predicted: torch.Tensor, target: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    cost = pairwise_box_cost(predicted[members], target[members], l1=L1, giou=GIOU)
    taken = assign_groups(cost, (members >= 0).sum(1).numpy())
    return reorder_groups(members, taken, len(predicted))


def one_matrix(
    predicted: torch.Tensor, target: torch.Tensor, members: torch.Tensor
) -> torch.Tensor:
    cost = cost_of_pairs(predicted, target)
    order, start = [], 0
    for group in members:
        end = start + len(group)
        order.append(start + linear_sum_assignment(cost[start:end, start:end])[1])
        start = end
    return torch.from_numpy(np.concatenate(order))


def per_group(predicted: torch.Tensor, target: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    order = torch.arange(len(predicted))
    for group in members:
        cost = cost_of_pairs(predicted[group], target[group])
        order[group] = group[torch.from_numpy(linear_sum_assignment(cost.numpy())[1])]
    return order


def total_cost(predicted: torch.Tensor, target: torch.Tensor) -> float:
    """Cost of an assignment, in double precision."""
    first, second = predicted.double(), target.double()
    giou = paired_iou(to_corners(first), to_corners(second))[1]
    return float((L1 * (first - second).abs().sum(1) + GIOU * (1 - giou)).sum())


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--references", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    groups = options.images * options.groups
    members = torch.arange(groups * options.references).view(groups, options.references)
    target = random_boxes(members.numel(), generator)
    shuffled = torch.rand(members.shape, generator=generator).argsort(1)
    near = target[members.gather(1, shuffled).flatten()]
    near = (near + 0.03 * torch.randn(near.shape, generator=generator)).clamp(min=0.01)
    for name, predicted in {
        "untrained": random_boxes(len(target), generator),
        "trained": near,
    }.items():
        truth = predicted, target, members
        totals = [
            total_cost(predicted, target[way(*truth)]) for way in (grouped, one_matrix, per_group)
        ]
        assert max(totals) - min(totals) < 1e-6 * max(totals)
        cost = pairwise_box_cost(predicted[members], target[members], l1=L1, giou=GIOU)
        tables = cost.double().contiguous().numpy()
        ours = milliseconds(lambda truth=truth: grouped(*truth), 30)
        floor = milliseconds(lambda tables=tables: [linear_sum_assignment(t) for t in tables], 30)
        whole = milliseconds(lambda truth=truth: one_matrix(*truth), 2)
        loop = milliseconds(lambda truth=truth: per_group(*truth), 3)
        print(f"{name}: grouped {ours:.2f} ms, scipy alone {floor:.2f} ms ({ours / floor:.1f} x)")
        print(f"  one matrix {whole:.0f} ms, {whole / ours:.0f} times as long as grouped")
        print(f"  per group {loop:.1f} ms, {loop / ours:.1f} times as long as grouped", flush=True)


if __name__ == "__main__":
    main()
