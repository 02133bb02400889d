"""Keypoints of all instances of a class: ``keypoint``."""

import numpy as np

from deixis.data.tasks.answers import KEYPOINT, has_keypoints, pointing, unit_group
from deixis.data.tasks.prompts import asked
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.tasks.things import clear_classes
from deixis.language import many
from deixis.structures import Sample, Turn


def keypoint(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for the keypoints of all instances of the only class with keypoints.

    None if an instance of the class lacks keypoints.
    """
    with_some = {instance.category for instance in sample.instances if has_keypoints(instance)}
    # Some wordings ask for all keypoints in the image without naming a class.
    if len(with_some) != 1:
        return None
    (name,) = with_some
    indices = clear_classes(sample, rules).get(name, [])
    if not 0 < len(indices) <= rules.max_references:
        return None
    group = unit_group(sample, indices, KEYPOINT, rules)
    if group is None:
        return None
    question = asked("keypoint", rng, rules, names=many(name))
    phrase = name if len(indices) == 1 else many(name)
    return Turn(question, pointing("The ", phrase, ".", group), "keypoint")


SPECS = (
    TaskSpec(
        name="keypoint",
        family="bodies",
        summary="Keypoints of all instances of the only class with keypoints.",
        needs="every instance of a class, all with keypoints; no other class has any",
        takes=("text",),
        gives=KEYPOINT,
        rules=("max_references", "order", "clear_visibility", "wording"),
        wordings=("keypoint",),
        make=single(keypoint),
    ),
)
