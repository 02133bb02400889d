"""Fixed benchmarks on drawn scenes, with the splits of the RefCOCO family.

Each of the three sets (``location``, ``appearance``, ``long``) has a ``train``, a ``val`` and two
test splits: ``testA`` asks for figures, ``testB`` for other classes. Splits share no scenes, and
training uses none of the seeds of this module.
"""

from collections.abc import Iterator
from itertools import count

from deixis.data.scenes.drawing import draw_scene
from deixis.data.scenes.scene_sample import scene_sample
from deixis.data.scenes.vocabulary import FIGURE
from deixis.errors import BenchmarkError
from deixis.structures import Expression, Sample

FAMILIES = ("location", "appearance", "long", "several", "absent")
"""Families of expressions: three for one instance, one for several, one for none."""

BENCHMARK_SPLITS = ("train", "val", "testA", "testB")
BENCHMARK_SEED = 20_240_613
"""The seed of every benchmark scene."""

PER_SCENE = 2
"""Most expressions of one scene in a set, which limits the weight of a scene."""


def scene_expressions(
    family: str, split: str, *, level: str = "standard", seed: int = BENCHMARK_SEED
) -> Iterator[tuple[Sample, Expression]]:
    """Yield pairs of a sample and one of its expressions, without end.

    The same arguments always give the same pairs. Targets are figures in ``testA``, other classes in
    ``testB`` and both in the other splits. For the sets ``several`` and ``absent``, the test splits
    differ only in their scenes.

    Raises:
        BenchmarkError: The set or the split is unknown.
    """
    if family not in FAMILIES:
        raise BenchmarkError(f"unknown set {family!r}: expected one of {', '.join(FAMILIES)}")
    if split not in BENCHMARK_SPLITS:
        raise BenchmarkError(
            f"unknown split {split!r}: expected one of {', '.join(BENCHMARK_SPLITS)}"
        )
    return _pairs(family, split, level=level, seed=seed)


def _pairs(
    family: str, split: str, *, level: str, seed: int
) -> Iterator[tuple[Sample, Expression]]:
    for index in count():
        scene = draw_scene(seed, index, level=level, split=split)
        has_figure = any(thing.name == FIGURE for thing in scene.things)
        if family in {"location", "appearance", "long"} and split == "testA" and not has_figure:
            # no instance of the scene can be a target, so skip the search for words
            continue
        sample = scene_sample(scene)
        chosen = [
            expression
            for expression in sample.expressions
            if _belongs(sample, expression, family=family, split=split)
        ]
        for expression in chosen[:PER_SCENE]:
            yield sample, expression


def _belongs(sample: Sample, expression: Expression, *, family: str, split: str) -> bool:
    targets = expression.instances
    if family == "several":
        return len(targets) > 1
    if family == "absent":
        return not targets
    if len(targets) != 1 or expression.family != family:
        return False
    is_figure = sample.instances[targets[0]].category == FIGURE
    return is_figure if split == "testA" else not (is_figure and split == "testB")
