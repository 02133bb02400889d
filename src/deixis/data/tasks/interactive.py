"""Interactive tasks: a region asks for the mask, box or keypoints of the marked instance."""

import numpy as np

from deixis.data.tasks.answers import BOX, KEYPOINT, MASK, has_keypoints, pick, pointing, unit_group
from deixis.data.tasks.prompts import asked, draw_region
from deixis.data.tasks.rules import REGION_KINDS, RegionKind, Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.structures import Instance, Sample, Turn


def interact(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    worded: str,
    kind: RegionKind,
    unit_types: tuple[str, ...],
) -> Turn | None:
    """Ask for the units of the instance at a region of one kind; the answer names its class."""
    known = [
        index
        for index, instance in enumerate(sample.instances)
        if _is_known(instance, kind, unit_types[0])
    ]
    if not known:
        return None
    index = pick(known, rng)
    instance = sample.instances[index]
    group = unit_group(sample, [index], unit_types, rules)
    if group is None:
        return None
    region = draw_region(instance, sample, rng, rules, kind=kind)
    answer = pointing("The ", instance.category, ".", group)
    return Turn(asked(worded, rng, rules, region=region), answer, f"{worded}_{kind}")


def _is_known(instance: Instance, kind: RegionKind, unit_type: str) -> bool:
    if instance.crowd or (instance.mask is None and "mask" in {kind, unit_type}):
        return False
    return unit_type != "keypoint" or has_keypoints(instance)


_KIND_RULES: dict[RegionKind, tuple[str, ...]] = {
    "point": ("points_on_mask", "box_core"),
    "box": (),
    "scribble": ("points_on_mask", "box_core", "scribble_width", "scribble_points"),
    "mask": (),
}


def _spec(worded: str, kind: RegionKind, unit_types: tuple[str, ...]) -> TaskSpec:
    holds = [f"a {unit}" for unit in unit_types if unit == "mask"]
    holds += ["keypoints"] if unit_types == KEYPOINT else []
    holds += ["a mask"] if kind == "mask" and unit_types != MASK else []
    given = "keypoints" if unit_types == KEYPOINT else unit_types[0]
    return TaskSpec(
        name=f"{worded}_{kind}",
        family="interactive",
        summary=f"The {given} of the instance at a given {kind}.",
        needs="an instance" + (f" with {' and '.join(holds)}" if holds else ""),
        takes=(kind,),
        gives=unit_types,
        rules=(*_KIND_RULES[kind], "wording"),
        wordings=(worded,),
        make=single(interact, worded=worded, kind=kind, unit_types=unit_types),
    )


SPECS = tuple(
    _spec(worded, kind, unit_types)
    for worded, unit_types in (
        ("interactive_mask", MASK),
        ("interactive_box", BOX),
        ("interactive_keypoint", KEYPOINT),
    )
    for kind in REGION_KINDS
)
