"""Tolerances for outputs of equal weights.

The last bits of a computed float depend on the kernel. The library chooses a kernel by the
processor and by the alignment of weights and inputs in memory: weights that are mapped from a file
lie at other addresses than the weights that were saved. Tests therefore compare weights, integers
and structure exactly (``torch.equal``, ``==``), and outputs of models and losses with the
tolerances here. A resumed run is promised the same bits (see ``docs/resuming.md``), so tests of
that compare exactly.
"""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

RTOL, ATOL = 1e-4, 1e-5
"""Tolerance of float32: some hundred times the rounding error of one operation on values near one."""

HALF_RTOL, HALF_ATOL = 2e-2, 2e-3
"""Tolerance of bfloat16 and float16: a few times the rounding error of bfloat16, which is 2**-8."""


def assert_same_outputs(found: Tensor, expected: Tensor, name: str = "output") -> None:
    """Fail unless two tensors of outputs agree in shape, type and, nearly, in every value."""
    half = found.dtype in {torch.bfloat16, torch.float16}
    torch.testing.assert_close(
        found,
        expected,
        rtol=HALF_RTOL if half else RTOL,
        atol=HALF_ATOL if half else ATOL,
        msg=lambda message: f"{name}: {message}",
    )


def assert_same_answers(found: object, expected: object, name: str = "answer") -> None:
    """Fail unless two answers or reports agree: floats nearly, everything else exactly."""
    if is_dataclass(expected) and not isinstance(expected, type):
        assert type(found) is type(expected), name
        for field in fields(expected):
            place = f"{name}.{field.name}"
            assert_same_answers(getattr(found, field.name), getattr(expected, field.name), place)
    elif isinstance(expected, dict):
        assert isinstance(found, dict), name
        assert found.keys() == expected.keys(), name
        for key, value in expected.items():
            assert_same_answers(found[key], value, f"{name}[{key!r}]")
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected), name
        assert isinstance(found, list | tuple)
        assert len(found) == len(expected), name
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same_answers(one, other, f"{name}[{index}]")
    elif isinstance(expected, np.ndarray):
        np.testing.assert_allclose(np.asarray(found), expected, RTOL, ATOL, err_msg=name)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=RTOL, abs=ATOL, nan_ok=True), name
    else:
        assert found == expected, name
