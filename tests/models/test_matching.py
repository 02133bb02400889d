from itertools import permutations

import numpy as np
import torch

from deixis.models.matching import match_groups


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
    spoiled[0, 2:], spoiled[0, :, 2:] = -100.0, -100.0
    sizes = np.array([2, 4])
    before, after = match_groups(cost, sizes), match_groups(spoiled, sizes)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
