"""Instances to the top left, top right, bottom left or bottom right of an instance (Pink)."""

import numpy as np

from deixis.data.tasks.answers import BOX, pick, pointing
from deixis.data.tasks.prompts import Slot, asked
from deixis.data.tasks.relations import Output, shown
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.tasks.things import is_doubtful, only_of_class
from deixis.geometry import Box
from deixis.language import definite
from deixis.structures import GroundedText, Sample, Turn, UnitGroup

QUADRANTS = ("top left", "top right", "bottom left", "bottom right")


def quadrant(
    sample: Sample, rng: np.random.Generator, rules: Rules, *, output: Output
) -> Turn | None:
    """Ask for all instances in one quadrant around an instance's centre; it may be empty."""
    if not sample.exhaustive or len(sample.instances) < 2:
        return None
    anchors = [
        index for index, instance in enumerate(sample.instances) if not is_doubtful(instance, rules)
    ]
    if not anchors:
        return None
    anchor = pick(anchors, rng)
    members = quadrant_members(sample, anchor, rules)
    full = [name for name, indices in members.items() if 0 < len(indices) <= rules.max_references]
    empty = [name for name, indices in members.items() if not indices]
    if rules.empty == "skip":
        empty = []
    if empty and (not full or rng.random() < rules.absent_share):
        full = empty
    if not full:
        return None
    name = pick(full, rng)
    indices = members[name]
    answer = shown(sample, indices, rules, output=output) if indices else _nothing(output, rules)
    if answer is None:
        return None
    task = f"quadrant_{output}"
    slot = anchor_slot(sample, anchor, rng, rules)
    return Turn(asked(task, rng, rules, quadrant=name, anchor=slot), answer, task)


def quadrant_members(sample: Sample, anchor: int, rules: Rules) -> dict[str, list[int]]:
    """Return instances by quadrant of their centres, without quadrants that a doubtful one touches.

    Instances level with the anchor are in no quadrant, unless the rules say otherwise.
    """
    x, y = sample.instances[anchor].box.center
    members: dict[str, list[int]] = {name: [] for name in QUADRANTS}
    for index, instance in enumerate(sample.instances):
        if index == anchor:
            continue
        if is_doubtful(instance, rules):
            for name in _touched(instance.box, x, y):
                members.pop(name, None)
            continue
        name = quadrant_of(instance.box.center, (x, y), ties=rules.quadrant_ties)
        if name in members:
            members[name].append(index)
    return members


def quadrant_of(center: tuple[float, float], anchor: tuple[float, float], *, ties: bool) -> str:
    """Return the quadrant of a centre around an anchor; empty if level and ties are excluded."""
    across, down = center[0] - anchor[0], center[1] - anchor[1]
    if not ties and (across == 0 or down == 0):
        return ""
    return f"{'top' if down < 0 else 'bottom'} {'left' if across < 0 else 'right'}"


def _touched(box: Box, x: float, y: float) -> list[str]:
    rows = ["top"] * (box.y1 < y) + ["bottom"] * (box.y2 > y)
    columns = ["left"] * (box.x1 < x) + ["right"] * (box.x2 > x)
    return [f"{row} {column}" for row in rows for column in columns]


def anchor_slot(sample: Sample, index: int, rng: np.random.Generator, rules: Rules) -> Slot:
    """Return unique words for an instance if it has some and the rules draw words, else its box."""
    if rng.random() >= rules.anchor_words_share:
        return sample.instances[index].box
    names = [
        definite(expression.text)
        for expression in sample.expressions
        if expression.instances == (index,)
    ]
    if only_of_class(sample, index):
        names.append(f"the {sample.instances[index].category}")
    return pick(names, rng) if names else sample.instances[index].box


def _nothing(output: Output, rules: Rules) -> GroundedText:
    if rules.empty == "group" and output != "class":
        return pointing("There is ", "nothing", " there.", UnitGroup(BOX, ()))
    return GroundedText("There is nothing there.")


_SUMMARIES: dict[Output, str] = {
    "box": "Boxes of all instances in a quadrant around an instance.",
    "class": "Classes of all instances in a quadrant around an instance.",
    "both": "Classes and boxes of all instances in a quadrant around an instance.",
}


def _spec(output: Output) -> TaskSpec:
    in_geometry = ("order",) if output != "class" else ()
    return TaskSpec(
        name=f"quadrant_{output}",
        family="quadrants",
        summary=_SUMMARIES[output],
        needs="every instance, at least two",
        takes=("text", "box"),
        gives=("words",) if output == "class" else BOX,
        rules=(
            *("anchor_words_share", "quadrant_ties", "empty", "absent_share", "clear_visibility"),
            *("max_references", *in_geometry, "wording"),
        ),
        wordings=(f"quadrant_{output}",),
        make=single(quadrant, output=output),
    )


SPECS = (_spec("box"), _spec("class"), _spec("both"))
