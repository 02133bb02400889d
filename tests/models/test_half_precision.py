"""Every part in half precision: states keep the type of the weights, geometry stays in float32."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from encoders import canvases, small_encoder
from every_part import RUNS, Given, Run
from models.decoders.small import largest_difference
from torch import nn
from whole_models import WHOLES, forward, learning_batch

from deixis.models.catalogue.parts import PARTS
from deixis.models.headed import HeadedLanguageModel
from deixis.models.pointing import PointingVLM
from deixis.models.vision.cache import FeatureCache
from deixis.models.vision.cached import CachedEncoder

HALF = torch.bfloat16
TOLERANCE = 0.1
"""Of the largest number, or of 1 where that is smaller: bfloat16 has eight bits."""

every_part = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def test_every_module_of_the_catalogue_is_among_the_parts() -> None:
    listed = set()
    for part in PARTS:
        module, _, name = part.code.rpartition(".")
        found = getattr(import_module(module), name)
        if isinstance(found, type) and issubclass(found, nn.Module):
            listed.add(found)
    covered = {kind for run in RUNS.values() for kind in run.parts}
    # the whole, what wraps an encoder and what only adds a head have tests of their own below
    elsewhere = {PointingVLM, CachedEncoder, HeadedLanguageModel}
    assert listed - elsewhere <= covered


@every_part
def test_every_part_works_and_trains_in_half_precision(run: Run) -> None:
    # the same rounded weights, computed exactly
    exact = run.built().to(HALF).float()
    expected = run.call(exact, Given())
    half = run.built().to(HALF)
    found = run.call(half, Given(dtype=HALF))
    assert found.keys() == expected.keys()
    for key, output in found.items():
        assert bool(torch.isfinite(output).all()), key
        geometry = key.startswith(("exact", "loss")) or output.dim() == 0
        assert output.dtype == (torch.float32 if geometry else HALF), key
        assert largest_difference(expected[key], output.float()) < TOLERANCE, key
    learned = [key for key, output in found.items() if output.requires_grad]
    assert learned == [key for key, output in expected.items() if output.requires_grad]
    if learned:
        for outputs in (found, expected):
            torch.stack([outputs[key].float().mean() for key in learned]).sum().backward()
    reached = {key for key, p in half.named_parameters() if p.grad is not None}
    assert reached == {key for key, p in exact.named_parameters() if p.grad is not None}
    for key, parameter in half.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.dtype == HALF
            assert bool(torch.isfinite(parameter.grad).all()), key


LEARNING = ("triplets", "bodies and depth", "segmenter and location", "mix of regions", "qwen3_vl")


@pytest.mark.parametrize("name", LEARNING)
def test_whole_models_train_in_half_precision(name: str, tmp_path: Path) -> None:
    whole = WHOLES[name]
    model, processor = whole.made(tmp_path)
    batch = learning_batch(processor, whole.tasks)
    expected = forward(model, batch)
    nn.Module.to(model, HALF)
    found = forward(model, batch)
    found.loss.backward()
    assert found.loss.dtype == torch.float32
    assert found.parts.keys() == expected.parts.keys()
    for key, part in found.parts.items():
        assert part.dtype == torch.float32, key
    # references of a group may be paired otherwise, so only the whole is compared
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=0.1)
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert bool(torch.isfinite(parameter.grad).all()), key


def test_cached_features_keep_their_dtype(tmp_path: Path) -> None:
    encoder = small_encoder("clip_vision_model").to(HALF).freeze()
    pixels = canvases(2, 32)
    plain = encoder(pixels)
    with FeatureCache(tmp_path) as cache:
        cached = CachedEncoder(encoder, cache)
        for again in (cached(pixels), cached(pixels)):
            assert again.tokens.dtype == HALF
            assert torch.equal(again.tokens, plain.tokens)
        assert cache.counts.hits == 2
