"""Every part and the whole model on a simulated accelerator: the same numbers, and no mixed devices."""

from pathlib import Path

import pytest
from every_part import RUNS, Given, Run
from models.decoders.small import largest_difference
from pretend_device import OnDevice, PretendDevice, on_device, values
from torch import Tensor, nn
from whole_models import WHOLES, forward, learning_batch

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
def test_every_part_on_a_device_equals_the_processor(run: Run) -> None:
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


LEARNING = (
    "triplets",
    "bodies and depth",
    "segmenter and location",
    "mix of regions",
    "video",
    "llava",
    "qwen3_vl",
)
"""The others differ from these in what they say, or in parts that are tested above."""


@pytest.mark.parametrize("name", LEARNING)
def test_losses_and_gradients_equal_those_on_the_processor(name: str, tmp_path: Path) -> None:
    whole = WHOLES[name]
    model, processor = whole.made(tmp_path)
    batch = learning_batch(processor, whole.tasks)
    expected = forward(model, batch)
    expected.loss.backward()
    wanted = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with PretendDevice():
        on_device(model)
        found = forward(model, batch.to("meta"))
        found.loss.backward()
    for kind in ("parts", "measures"):
        given, known = getattr(found, kind), getattr(expected, kind)
        assert given.keys() == known.keys()
        for key, value in given.items():
            assert isinstance(value, OnDevice), key
            assert largest_difference(known[key], values(value)) < 1e-4, key
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == wanted.keys()
    for key, gradient in gradients.items():
        assert largest_difference(wanted[key], values(gradient)) < 1e-3, key
