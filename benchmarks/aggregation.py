"""Mask-guided aggregation of all regions of a batch at once, against a loop over regions.

The figures are ratios of time in one run, after both gave the same tokens: to a loop that pools one
region after the other, and to lining features up with masks (`features[rows] * masks`), which
copies an image's features for each of its regions. The floor is what cannot be avoided: features
and masks read once, tokens written once, and a multiplication and an addition for each region, cell
and channel, at the rates that a copy and a matrix product reach on this machine.

Run: python benchmarks/aggregation.py [--images 8] [--regions 16] [--channels 1024] [--grid 24]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from deixis.models.regions import MaskGuidedAggregation
from deixis.models.regions.aggregation import PRESETS

Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def weights_of(masks: Tensor, grid: int) -> Tensor:
    """Cells at least half covered, or the best covered one, with a sum of one."""
    share = functional.adaptive_avg_pool2d(masks[:, None], grid)[:, 0]
    inside = (share >= 0.5).float()
    largest = functional.one_hot(share.flatten(1).argmax(1), grid * grid).float().view_as(share)
    weights = torch.where(inside.flatten(1).any(1)[:, None, None], inside, largest)
    return weights / weights.sum((1, 2), keepdim=True)


def one_by_one(side: int, positions: Tensor) -> Way:
    def pool(features: Tensor, masks: Tensor, rows: Tensor) -> Tensor:
        tokens = []
        block = features.shape[-1] // side
        for mask, row in zip(masks, rows.tolist(), strict=True):
            weighted = features[row] * weights_of(mask[None], features.shape[-1])
            sums = functional.avg_pool2d(weighted[None], block)[0] * block**2
            tokens.append(sums.flatten(1).T + positions)
        return torch.stack(tokens)

    return pool


def lined_up(side: int, positions: Tensor) -> Way:
    def pool(features: Tensor, masks: Tensor, rows: Tensor) -> Tensor:
        block = features.shape[-1] // side
        weighted = features[rows] * weights_of(masks, features.shape[-1])[:, None]
        sums = functional.avg_pool2d(weighted, block) * block**2
        return sums.flatten(2).transpose(1, 2) + positions

    return pool


def seconds(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def machine(repeats: int) -> tuple[float, float]:
    """Bytes per second of a copy (read and written), operations per second of a product."""
    long, target = torch.zeros(2**25), torch.empty(2**25)
    square = torch.randn(1024, 1024)
    copy = seconds(lambda: target.copy_(long), repeats)
    product = seconds(lambda: square @ square, repeats)
    return 2 * 4 * len(long) / copy, 2 * 1024**3 / product


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--regions", type=int, default=16, help="of each image")
    parser.add_argument("--channels", type=int, default=1024)
    parser.add_argument("--grid", type=int, default=24)
    parser.add_argument("--mask", type=int, default=96, help="side of the masks")
    parser.add_argument("--tokens", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    count = options.images * options.regions
    features = torch.randn(options.images, options.channels, options.grid, options.grid)
    masks = torch.zeros(count, options.mask, options.mask)
    for mask, corner in zip(masks, torch.randint(0, options.mask // 2, (count, 2)), strict=True):
        top, left = corner.tolist()
        mask[top : top + options.mask // 3, left : left + options.mask // 2] = 1
    rows = torch.arange(options.images).repeat(options.regions)

    module = MaskGuidedAggregation(options.tokens, variant=PRESETS["deixis"])
    positions = module._positions(options.channels, features.device)  # noqa: SLF001
    ways: dict[str, Way] = {
        "at once": module,
        "loop": one_by_one(module.side, positions),
        "lined up": lined_up(module.side, positions),
    }
    expected = module(features, masks, rows)
    forward: dict[str, float] = {}
    both: dict[str, float] = {}
    for name, way in ways.items():
        torch.testing.assert_close(way(features, masks, rows), expected, atol=1e-4, rtol=1e-4)
        learned = features.clone().requires_grad_()

        def step(way: Way = way, learned: Tensor = learned) -> None:
            learned.grad = None
            way(learned, masks, rows).sum().backward()

        with torch.no_grad():
            forward[name] = seconds(lambda way=way: way(features, masks, rows), options.repeats)
        both[name] = seconds(step, options.repeats)

    moved = 4 * (features.numel() + masks.numel() + expected.numel())
    counted = 2 * count * options.grid**2 * options.channels
    bandwidth, rate = machine(options.repeats)
    floor = max(moved / bandwidth, counted / rate)
    print(
        f"{count} regions on {options.images} images of {options.grid}x{options.grid} cells with "
        f"{options.channels} channels, {options.tokens} tokens each, "
        f"{torch.get_num_threads()} threads"
    )
    for name in ("loop", "lined up"):
        print(
            f"{name} / at once: {forward[name] / forward['at once']:.1f} forward, "
            f"{both[name] / both['at once']:.1f} with gradients"
        )
    print(
        f"floor: {moved / 1e6:.1f} MB moved, {counted / 1e9:.2f} G operations; at "
        f"{bandwidth / 1e9:.1f} GB/s and {rate / 1e9:.0f} G/s that is {floor * 1e3:.1f} ms, "
        f"and forward takes {forward['at once'] * 1e3:.1f} ms ({forward['at once'] / floor:.1f} x)"
    )


if __name__ == "__main__":
    main()
