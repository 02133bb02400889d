"""Captions of the whole image, plain or grounded, and captions to ground."""

import numpy as np

from deixis.data.tasks.answers import BOX, COMPOSITE, MASK, ended, in_units, pick
from deixis.data.tasks.prompts import asked
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.structures import GroundedText, Sample, Turn


def caption(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for the shortest caption, without geometry."""
    if not sample.captions:
        return None
    shortest = min(sample.captions, key=lambda text: len(text.text))
    return Turn(asked("caption", rng, rules), GroundedText(ended(shortest.text)), "caption")


def caption_detailed(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for the longest caption, without geometry; None if it is not a detailed one."""
    if not sample.captions:
        return None
    longest = max(sample.captions, key=lambda text: len(text.text)).text.strip()
    if ". " not in longest and len(longest.split()) < rules.detailed_words:
        return None
    return Turn(
        asked("caption_detailed", rng, rules), GroundedText(ended(longest)), "caption_detailed"
    )


def grounded(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    unit_types: tuple[str, ...],
) -> Turn | None:
    """Ask for a grounded caption."""
    answer = _drawn(sample, rng, rules, unit_types)
    return None if answer is None else Turn(asked(task, rng, rules), answer, task)


def ground(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    unit_types: tuple[str, ...],
) -> Turn | None:
    """Ask to ground the caption in the question; the answer is the grounded caption."""
    answer = _drawn(sample, rng, rules, unit_types)
    if answer is None:
        return None
    return Turn(asked(task, rng, rules, text=f'"{answer.text}"'), answer, task)


def _drawn(
    sample: Sample, rng: np.random.Generator, rules: Rules, unit_types: tuple[str, ...]
) -> GroundedText | None:
    """Draw a grounded caption with some unit types; None if it lacks one or has too many references."""
    known = [text for text in sample.captions if text.phrases]
    if not known:
        return None
    text = pick(known, rng)
    groups = [group for phrase in text.phrases for group in phrase.groups]
    if sum([len(group.references) for group in groups]) > rules.max_references:
        return None
    return in_units(text, unit_types)


_NEEDS = "a caption whose phrases have"
_SHARED = ("wording",)


def _grounded_spec(task: str, unit_types: tuple[str, ...], given: str) -> TaskSpec:
    return TaskSpec(
        name=task,
        family="captions",
        summary=f"Grounded caption generation: a caption whose phrases have {given}.",
        needs=f"{_NEEDS} {given}",
        takes=("text",),
        gives=unit_types,
        rules=("max_references", *_SHARED),
        wordings=(task,),
        make=single(grounded, task=task, unit_types=unit_types),
    )


def _ground_spec(task: str, unit_types: tuple[str, ...], given: str) -> TaskSpec:
    return TaskSpec(
        name=task,
        family="captions",
        summary=f"The caption in the question, with {given} for its phrases.",
        needs=f"{_NEEDS} {given}",
        takes=("text",),
        gives=unit_types,
        rules=("max_references", *_SHARED),
        wordings=(task,),
        make=single(ground, task=task, unit_types=unit_types),
    )


SPECS = (
    TaskSpec(
        name="caption",
        family="captions",
        summary="A short caption of the image.",
        needs="a caption",
        takes=("text",),
        gives=("words",),
        rules=_SHARED,
        wordings=("caption",),
        make=single(caption),
    ),
    TaskSpec(
        name="caption_detailed",
        family="captions",
        summary="A detailed caption of the image.",
        needs="a caption with several sentences, or a long one",
        takes=("text",),
        gives=("words",),
        rules=("detailed_words", *_SHARED),
        wordings=("caption_detailed",),
        make=single(caption_detailed),
    ),
    _grounded_spec("gcg", COMPOSITE, "boxes and masks"),
    _grounded_spec("gcg_box", BOX, "boxes"),
    _grounded_spec("gcg_mask", MASK, "masks"),
    _ground_spec("ground_caption", BOX, "boxes"),
    _ground_spec("ground_caption_mask", MASK, "masks"),
)
