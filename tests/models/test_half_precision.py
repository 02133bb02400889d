"""Every part in half precision: states keep the type of the weights, geometry stays in float32."""

from importlib import import_module

import pytest
import torch
from every_part import RUNS, Given, Run
from models.decoders.small import largest_difference
from torch import nn

from deixis.models.catalogue.parts import PARTS
from deixis.models.headed import HeadedLanguageModel
from deixis.models.pointing import PointingVLM
from deixis.models.vision.cached import CachedEncoder

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
TOLERANCE = {"bfloat16": 0.1, "float16": 0.02}
ELSEWHERE = {PointingVLM, CachedEncoder, HeadedLanguageModel}
"""Whole models and wrappers, which other tests of this folder run in half precision."""

every_part = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def test_every_module_of_the_catalogue_is_among_the_parts() -> None:
    listed = set()
    for part in PARTS:
        module, _, name = part.code.rpartition(".")
        found = getattr(import_module(module), name)
        if isinstance(found, type) and issubclass(found, nn.Module):
            listed.add(found)
    covered = {kind for run in RUNS.values() for kind in run.parts}
    assert listed - ELSEWHERE <= covered


@every_part
@pytest.mark.parametrize("name", HALVES)
def test_every_part_works_and_learns_in_half_precision(run: Run, name: str) -> None:
    dtype = HALVES[name]
    module = run.built()
    # the same rounded weights and states, computed exactly
    rounded = run.built().to(dtype).float()
    expected = run.call(rounded, Given())
    half = module.to(dtype)
    found = run.call(half, Given(dtype=dtype))
    assert found.keys() == expected.keys()
    for key, output in found.items():
        assert bool(torch.isfinite(output).all()), key
        exact = key.startswith(("exact", "loss")) or output.dim() == 0
        assert output.dtype == (torch.float32 if exact else dtype), key
        assert largest_difference(expected[key], output.float()) < TOLERANCE[name], key
    learned = {key for key, output in found.items() if output.requires_grad}
    assert learned == {key for key, output in expected.items() if output.requires_grad}
    if learned:
        sum(found[key].float().mean() for key in learned).backward()  # type: ignore[union-attr]
        sum(expected[key].mean() for key in learned).backward()  # type: ignore[union-attr]
    reached = {key for key, p in half.named_parameters() if p.grad is not None}
    assert reached == {key for key, p in rounded.named_parameters() if p.grad is not None}
    for key, parameter in half.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.dtype == dtype
            assert bool(torch.isfinite(parameter.grad).all()), key
