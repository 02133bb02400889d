from pathlib import Path

import pytest
import torch
from closeness import assert_same_outputs
from encoders import canvases, small_encoder
from torch import nn

from deixis.errors import ModelError
from deixis.models.adapters import insert_adapters
from deixis.models.vision import SmallVisionConfig, SmallVisionEncoder, VisionFeatures
from deixis.models.vision.cache import FeatureCache
from deixis.models.vision.cached import CachedEncoder, encoder_digest
from deixis.models.vision.normalisation import CLIP
from deixis.models.vision.pretrained import PretrainedEncoder
from deixis.models.vision.pyramid import PyramidEncoder, join_encoders


def equal(one: VisionFeatures, other: VisionFeatures) -> bool:
    return torch.equal(one.tokens, other.tokens) and all(
        torch.equal(a, b) for a, b in zip(one.pyramid, other.pyramid, strict=True)
    )


def small() -> SmallVisionEncoder:
    torch.manual_seed(0)
    config = SmallVisionConfig(
        image_size=64, widths=(8, 16, 24, 32), blocks=(1, 1), layers=1, heads=2
    )
    encoder = SmallVisionEncoder(config)
    encoder.requires_grad_(requires_grad=False)
    return encoder


def both() -> PyramidEncoder:
    return join_encoders(
        small_encoder("clip_vision_model").freeze(),
        small_encoder("convnext", normalisation=CLIP).freeze(),
        index=(0, 1, 2, 4),
    )


ENCODERS = {
    "clip": lambda: small_encoder("clip_vision_model", image_size=64).freeze(),
    "class": lambda: small_encoder("clip_vision_model", image_size=64, class_token=True).freeze(),
    "dino": lambda: small_encoder("dinov3_vit", image_size=64, layer="last").freeze(),
    "convnext": lambda: small_encoder("convnext").freeze(),
    "pyramid": both,
    "small": small,
}


class Counted(nn.Module):
    """Count the canvases that pass the network."""

    def __init__(self, encoder: PretrainedEncoder) -> None:
        super().__init__()
        self.inner = encoder
        self.config = encoder.config
        self.passed = 0

    def forward(self, pixels: torch.Tensor) -> VisionFeatures:
        self.passed += len(pixels)
        features = self.inner(pixels)
        assert isinstance(features, VisionFeatures)
        return features


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_cached_features_equal_a_plain_forward_bit_for_bit(name: str, tmp_path: Path) -> None:
    encoder: nn.Module = ENCODERS[name]()
    pixels = canvases(3, 64)
    plain = encoder(pixels)
    with FeatureCache(tmp_path) as cache:
        cached = CachedEncoder(encoder, cache)
        computed = cached(pixels)
        assert cache.counts.hits == 0
        assert_same_outputs(computed.tokens, plain.tokens)
        for mine, theirs in zip(computed.pyramid, plain.pyramid, strict=True):
            assert_same_outputs(mine, theirs)
        assert equal(cached(pixels), computed)
        assert cache.counts.hits == 3
    fresh = FeatureCache(tmp_path)
    again = CachedEncoder(encoder, fresh)(pixels)
    assert equal(again, computed)
    assert (fresh.counts.hits, fresh.counts.misses) == (3, 0)
    assert not again.tokens.requires_grad


def test_each_new_canvas_passes_the_network_once(tmp_path: Path) -> None:
    counted = Counted(small_encoder("clip_vision_model").freeze())
    cached = CachedEncoder(counted, FeatureCache(tmp_path))
    pixels = canvases(4, 32)
    first = cached(pixels[[0, 1, 0]])
    assert counted.passed == 2
    assert torch.equal(first.tokens[0], first.tokens[2])
    mixed = cached(pixels[[2, 1, 3, 0]])
    assert counted.passed == 4
    assert torch.equal(mixed.tokens[[3, 1]], first.tokens[[0, 1]])
    assert_same_outputs(mixed.tokens, counted.inner(pixels[[2, 1, 3, 0]]).tokens)


def test_a_cache_stores_results_before_magnification(tmp_path: Path) -> None:
    encoder = small_encoder("clip_vision_model").freeze()
    cache = FeatureCache(tmp_path)
    cached = CachedEncoder(encoder, cache)
    pixels = canvases(1, 32)
    cached(pixels)
    stored = cache.get(cached.keys(pixels)[0])
    assert stored is not None
    assert {name: tuple(part.shape) for name, part in stored.items()} == {"2": (16, 32)}


def test_a_key_depends_on_everything_that_changes_features(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    pixels = canvases(1, 64)
    clip = small_encoder("clip_vision_model", image_size=64).freeze()
    base = CachedEncoder(clip, cache)
    changed = pixels.clone()
    changed[0, 0, 0, 0] += 1e-6
    with torch.autocast("cpu", torch.bfloat16):
        autocast = base.keys(pixels)[0]
    keys = [
        base.keys(pixels)[0],
        base.keys(changed)[0],
        base.keys(pixels.double())[0],
        base.keys(pixels[..., ::2, ::2])[0],
        autocast,
        *(
            CachedEncoder(small_encoder("clip_vision_model", **choices).freeze(), cache).keys(
                pixels
            )[0]
            for choices in (
                {"image_size": 64, "layer": -1},
                {"image_size": 64, "seed": 1},
                {"image_size": 64, "class_token": True},
                {"image_size": 64, "pyramid": ((1, 1.0),)},
                {"image_size": 32},
            )
        ),
    ]
    assert len(set(keys)) == len(keys)
    same = small_encoder("clip_vision_model", image_size=64).freeze()
    assert CachedEncoder(same, FeatureCache(tmp_path / "other")).keys(pixels) == base.keys(pixels)


def test_changed_weights_change_the_key(tmp_path: Path) -> None:
    cached = CachedEncoder(small_encoder("clip_vision_model").freeze(), FeatureCache(tmp_path))
    pixels = canvases(1, 32)
    before = cached(pixels)
    digest = cached.digest()
    other = small_encoder("clip_vision_model", seed=3).freeze()
    cached.load_state_dict(other.state_dict(), strict=True)
    assert cached.digest() == encoder_digest(other) != digest
    assert_same_outputs(cached(pixels).tokens, other(pixels).tokens)
    assert not torch.equal(before.tokens, other(pixels).tokens)
    with torch.no_grad():
        next(cached.encoder.parameters()).add_(1)
    assert cached.digest() not in {digest, encoder_digest(other)}
    half = cached.digest()
    cached.to(torch.bfloat16)
    assert cached.digest() != half
    assert cached(pixels).tokens.dtype == torch.bfloat16


def test_the_wrapper_does_not_change_a_state_dict(tmp_path: Path) -> None:
    plain = nn.ModuleDict({"vision": small_encoder("clip_vision_model"), "head": nn.Linear(2, 2)})
    frozen = small_encoder("clip_vision_model", seed=5).freeze()
    wrapped = nn.ModuleDict(
        {"vision": CachedEncoder(frozen, FeatureCache(tmp_path)), "head": nn.Linear(2, 2)}
    )
    assert list(wrapped.state_dict()) == list(plain.state_dict())
    wrapped.load_state_dict(plain.state_dict(), strict=True)
    pixels = canvases(1, 32)
    assert_same_outputs(wrapped["vision"](pixels).tokens, plain["vision"](pixels).tokens)
    plain.load_state_dict(wrapped.state_dict(), strict=True)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        wrapped.load_state_dict({**plain.state_dict(), "vision.more": torch.ones(1)})


def test_the_wrapper_has_the_attributes_of_its_encoder(tmp_path: Path) -> None:
    encoder = small_encoder("clip_vision_model").freeze()
    cached = CachedEncoder(encoder, FeatureCache(tmp_path))
    assert cached.widths == encoder.widths
    assert (cached.num_tokens, cached.token_width) == (16, 32)
    assert cached.normalisation == encoder.normalisation
    with pytest.raises(AttributeError, match="nothing"):
        cached.nothing  # noqa: B018
    assert not cached.train().training


def test_gradients_flow_through_parts_after_a_cached_encoder(tmp_path: Path) -> None:
    cached = CachedEncoder(small_encoder("clip_vision_model").freeze(), FeatureCache(tmp_path))
    projector = nn.Linear(32, 8)
    for _ in range(2):
        projector.zero_grad()
        projector(cached(canvases(2, 32)).tokens).square().sum().backward()
        assert projector.weight.grad is not None
        assert torch.isfinite(projector.weight.grad).all()


def test_a_trainable_encoder_is_refused(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    with pytest.raises(ModelError, match=r"features of an encoder with .* trainable tensors"):
        CachedEncoder(small_encoder("clip_vision_model"), cache)
    cached = CachedEncoder(small_encoder("clip_vision_model").freeze(), cache)
    insert_adapters(cached.encoder)
    with pytest.raises(ModelError, match="an encoder with 6 trainable tensors"):
        cached(canvases(1, 32))
