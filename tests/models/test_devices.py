"""Every part and the whole model on a pretend accelerator: the same numbers, and no mixed devices."""

import pytest
import torch
from every_part import RUNS, Given, Run
from models.decoders.small import largest_difference
from pretend_device import OnDevice, PretendDevice, on_device, values
from torch import Tensor, nn

every_part = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def learned(module: nn.Module, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a sum over everything that was given."""
    total = sum(x.float().square().mean() for x in outputs.values() if x.requires_grad)
    if isinstance(total, Tensor):
        total.backward()
    return {
        name: values(parameter.grad)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


@every_part
def test_every_part_gives_the_processors_numbers_on_a_device(run: Run) -> None:
    plain = run.built()
    expected = run.call(plain, Given())
    wanted = learned(plain, expected)
    with PretendDevice():
        module = on_device(run.built())
        found = run.call(module, Given(place=lambda tensor: tensor.to("meta")))
        assert all(isinstance(output, OnDevice) for output in found.values())
        gradients = learned(module, found)
    assert found.keys() == expected.keys()
    for name, output in found.items():
        assert largest_difference(expected[name], values(output)) < 1e-5, name
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        assert largest_difference(wanted[name], gradient) < 1e-4, name
