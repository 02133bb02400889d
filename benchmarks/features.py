"""REF-VLM's two-encoder pyramid, with and without a cache of its features.

Ways to see the same images, in one run and with equal results: the encoder (the baseline), the
encoder and a cache that knows none of them, and a cache that knows all, opened anew so that
nothing is left in memory but what the system keeps of its files. Figures are ratios of time per
image. The floor of the encoder is its operations at the rate of a matrix product on this machine;
that of the cache the bytes of an image's features at the rate of a copy.

Weights are random. The default is a pyramid of a tenth of REF-VLM's operations; ``--released`` is
its size (CLIP ViT-L/14 at 336, ConvNeXt-L at 512; 2 GB).

Run: python benchmarks/features.py [--images 4] [--released] [--device cpu]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, ConvNextConfig

from deixis.models.vision.cache import FeatureCache
from deixis.models.vision.cached import CachedEncoder
from deixis.models.vision.features import VisionFeatures
from deixis.models.vision.pretrained import vision_config
from deixis.models.vision.pyramid import PyramidConfig, PyramidEncoder


def build(*, released: bool) -> PyramidEncoder:
    """A pyramid with random weights."""
    if released:
        vit = CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
        )
        convolution = ConvNextConfig(hidden_sizes=[192, 384, 768, 1536], depths=[3, 3, 27, 3])
        sides = (336, 512)
    else:
        vit = CLIPVisionConfig(
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=12,
            num_attention_heads=8,
            image_size=224,
            patch_size=14,
        )
        convolution = ConvNextConfig(hidden_sizes=[96, 192, 384, 768], depths=[3, 3, 9, 3])
        sides = (224, 384)
    config = PyramidConfig(
        vision_config(vit, image_size=sides[0]),
        vision_config(convolution, image_size=sides[1], layer=-1),
    )
    return PyramidEncoder(config).requires_grad_(requires_grad=False).train(mode=False)


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes, accelerator included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def tensors(features: VisionFeatures) -> list[torch.Tensor]:
    """All that an encoder gives."""
    return [features.tokens, *features.pyramid]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--released", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    encoder = build(released=options.released).to(options.device)
    side = encoder.config.image_size
    pixels = torch.rand(options.images, 3, side, side, device=options.device) * 2 - 1

    def encode(way: torch.nn.Module) -> list[list[torch.Tensor]]:
        # one by one, so that all three ways do the same
        with torch.no_grad():
            return [tensors(way(image[None])) for image in pixels]

    with FlopCounterMode(display=False) as counter:
        expected = encode(encoder)
    plain = min(seconds(lambda: encode(encoder)) for _ in range(options.rounds))
    size = 4096 if options.device != "cpu" else 1024
    left = torch.rand(size, size, device=options.device)
    rate = 2 * size**3 / min(seconds(lambda: left @ left) for _ in range(5))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "features"
        with FeatureCache(folder) as cache:
            first = CachedEncoder(encoder, cache)
            first.digest()
            filling = seconds(lambda: encode(first))
        known = []
        for _ in range(options.rounds):
            with FeatureCache(folder) as cache:
                second = CachedEncoder(encoder, cache)
                second.digest()
                known.append(seconds(lambda way=second: encode(way)))
                found = encode(second)
        same = all(
            torch.equal(one, other)
            for mine, theirs in zip(found, expected, strict=True)
            for one, other in zip(mine, theirs, strict=True)
        )
        if not same:
            raise SystemExit("the cache gave other features")
        stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    bytes_ = torch.empty(stored, dtype=torch.uint8)
    copy = min(seconds(bytes_.clone) for _ in range(5))
    count, floor = options.images, counter.get_total_flops() / rate
    print(f"{count} images of {side} px on {options.device}, the same features in all ways")
    print(
        f"encoder: 1 x ({plain / count * 1e3:.0f} ms an image); floor {plain / floor:.1f} x below"
    )
    print(f"encoder and an empty cache: {filling / plain:.2f} x")
    print(
        f"cache that knows them: {min(known) / plain:.4f} x, {plain / min(known):.0f} times faster; "
        f"{stored / count / 2**20:.1f} MiB an image; floor {min(known) / copy:.1f} x below"
    )


if __name__ == "__main__":
    main()
