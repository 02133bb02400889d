"""The anchored decoder against the plain one at equal samples, in one run.

Both models are the small recipe's, at the same seed, on the same rows; only `anchored` differs.
The figure is the share of boxes above IoU 0.5 over the last rows, teacher-forced, on the training
stream (no row is seen twice).

Run: python benchmarks/anchored_decoder.py [--see 200] [--steps 300]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from deixis.recipes import scenes_tiny
from deixis.training import TrainRecipe, train


def small(*, anchored: bool, see: int, steps: int) -> TrainRecipe:
    """The small recipe, cut short, with or without anchors."""
    recipe = scenes_tiny()
    decoder = replace(recipe.model.box_decoder, anchored=anchored)
    model = replace(recipe.model, box_decoder=decoder, mask_decoder=decoder)
    first, second = recipe.stages[:2]
    stages = (replace(first, steps=see), replace(second, steps=steps))
    return replace(recipe, model=model, stages=stages, log_every=20, checkpoint_every=10**9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--see", type=int, default=200)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    share = {}
    for anchored in (True, False):
        rows: list[dict[str, float]] = []
        with tempfile.TemporaryDirectory() as folder:
            recipe = small(anchored=anchored, see=options.see, steps=options.steps)
            train(recipe, Path(folder) / "run", report=rows.append)
        last = rows[-3:]
        share[anchored] = sum(row["box_at_half"] for row in last) / len(last)
        print(f"anchored={anchored}: boxes above IoU 0.5: {share[anchored]:.3f}", flush=True)
    print(f"anchored / plain: {share[True] / max(share[False], 1e-3):.1f}")


if __name__ == "__main__":
    main()
