"""Decoders at equal samples, in one run: DETR's, anchored, and anchored with proposals.

All models are the small recipe's, at the same seed, on the same rows, with image tokens from the
cells; only what the decoders start from differs. The figure is the share of boxes above IoU 0.5
over the last steps, teacher-forced, on the training stream (no row is seen twice), and its ratio
to DETR's decoder, the public baseline.

Run: python benchmarks/anchored_decoder.py [--see 150] [--steps 200]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from deixis.recipes import scenes_tiny
from deixis.training import TrainRecipe, train

ARMS = {
    "detr": {"anchored": False, "proposals": False},
    "anchored": {"anchored": True, "proposals": False},
    "anchored, proposals": {"anchored": True, "proposals": True},
}
BASELINE = "detr"
LAST = 3
"""Rows of the log, of 20 steps each, that the figure is the mean of."""


def short_recipe(*, anchored: bool, proposals: bool, see: int, steps: int) -> TrainRecipe:
    """The small recipe, cut short, with other decoders."""
    recipe = scenes_tiny()
    decoder = replace(recipe.model.decoders["box"], anchored=anchored)
    model = replace(
        recipe.model,
        decoders={"box": decoder, "mask": decoder},
        proposals=proposals,
        tokens_from="cells",
    )
    first, second = recipe.stages[:2]
    parts = tuple(part for part in first.trainable if proposals or part != "proposal_head")
    stages = (replace(first, steps=see, trainable=parts), replace(second, steps=steps))
    return replace(recipe, model=model, stages=stages, log_every=20, checkpoint_every=10**9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--see", type=int, default=150)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    share: dict[str, float] = {}
    for name, arm in ARMS.items():
        rows: list[dict[str, float]] = []
        with tempfile.TemporaryDirectory() as folder:
            recipe = short_recipe(**arm, see=options.see, steps=options.steps)
            train(recipe, Path(folder) / "run", report=rows.append)
        share[name] = sum(row["box_at_half"] for row in rows[-LAST:]) / LAST
        ratio = share[name] / max(share[BASELINE], 1e-3)
        print(
            f"{name}: boxes above IoU 0.5: {share[name]:.3f}, {ratio:.1f} x {BASELINE}", flush=True
        )


if __name__ == "__main__":
    main()
