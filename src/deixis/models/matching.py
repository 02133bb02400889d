"""Hungarian matching inside groups (REF-VLM III-D, equations 4 to 8).

A group is the references of one phrase: its units may come in any order, units of another phrase
may not take part. Groups are padded into one batch of small squares, so that costs are computed
once for all of them.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match_groups(
    cost: Float[Tensor, "groups most most"], sizes: Int[np.ndarray, " groups"]
) -> list[Int[np.ndarray, " size"]]:
    """Give, for each group, the target that each of its references takes.

    Args:
        cost: Cost of reference i taking target j, padded; entries past a group's size are not
            read.
        sizes: References (and as many targets) in each group.
    """
    table = cost.detach().float().cpu().numpy()
    matches: list[Int[np.ndarray, " size"]] = []
    for square, size in zip(table, sizes, strict=True):
        if size == 1:
            matches.append(np.zeros(1, dtype=np.int64))
        elif size == 2:
            straight, crossed = square[0, 0] + square[1, 1], square[0, 1] + square[1, 0]
            matches.append(np.array([0, 1] if straight <= crossed else [1, 0]))
        else:
            matches.append(linear_sum_assignment(square[:size, :size])[1])
    return matches
