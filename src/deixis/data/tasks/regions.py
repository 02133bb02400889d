"""Region tasks: descriptions, expressions and questions about the instance at a region."""

from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from deixis.data.tasks.answers import BOX, Piece, ended, pick, unit_group, written
from deixis.data.tasks.places import SEVERAL, with_boxes, with_phrases
from deixis.data.tasks.prompts import asked, draw_region, with_region
from deixis.data.tasks.rules import REGION_KINDS, RegionKind, Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.tasks.things import draw_relation, short_name
from deixis.data.wording import REGION_SLOT
from deixis.geometry import Box, Mask, Point, Scribble
from deixis.language import article, definite, determiner, sentence
from deixis.language.predicates import clause
from deixis.structures import GroundedText, QuestionAnswer, Region, Sample, Turn

_CLASSES: Mapping[RegionKind, type[Region]] = {
    "point": Point,
    "box": Box,
    "scribble": Scribble,
    "mask": Mask,
}
NOT_ABOUT_ONE = frozenset({"description", "statement", "which", SEVERAL})
"""Kinds of questions that are not about one instance."""


def describe(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    kind: RegionKind | None = None,
) -> Turn | None:
    """Ask for a description of the instance at a region, with the source's question if it has one."""
    known: list[tuple[int | Region, str]] = [
        (index, answer) for index, answer in descriptions(sample) if _can_show(sample, index, kind)
    ]
    known += [
        (question.region, ended(question.answer))
        for question in sample.questions
        if question.kind == "description" and _is_kind(question.region, kind)
    ]
    if not known:
        return None
    thing, answer = pick(known, rng)
    if isinstance(thing, int):
        thing = draw_region(sample.instances[thing], sample, rng, rules, kind=kind)
    return Turn(asked("reg", rng, rules, region=thing), GroundedText(answer), task)


def descriptions(sample: Sample) -> list[tuple[int, str]]:
    """Return instances with their descriptions, or with their classes if there are none."""
    known = [
        (question.instance, ended(question.answer))
        for question in sample.questions
        if question.kind == "description" and question.instance is not None
    ]
    return known or [
        (index, sentence(article(instance.category)))
        for index, instance in enumerate(sample.instances)
        if not instance.crowd
    ]


def _can_show(sample: Sample, index: int, kind: RegionKind | None) -> bool:
    return kind != "mask" or sample.instances[index].mask is not None


def describe_only(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    kind: RegionKind | None = None,
) -> Turn | None:
    """Ask for an expression that refers only to the instance at a region."""
    known = [expression for expression in sample.expressions if len(expression.instances) == 1]
    if not known:
        return None
    expression = pick(known, rng)
    region = draw_region(sample.instances[expression.instances[0]], sample, rng, rules, kind=kind)
    answer = GroundedText(sentence(definite(expression.text)))
    return Turn(asked(task, rng, rules, region=region), answer, task)


def about_region(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    kind: RegionKind | None = None,
) -> Turn | None:
    """Ask a question from the source about the instance at a region."""
    known = [
        question
        for question in sample.questions
        if question.kind not in NOT_ABOUT_ONE and _is_about_region(question, kind)
    ]
    if not known:
        return None
    chosen = pick(known, rng)
    region = chosen.region
    if region is None:
        instance = sample.instances[_index(chosen)]
        region = draw_region(instance, sample, rng, rules, kind=kind)
    question = with_region(chosen.question, region, slot=REGION_SLOT)
    return Turn(question, GroundedText(ended(chosen.answer)), task)


def about_regions(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask a question from the source about several instances, given by their boxes."""
    known = [question for question in sample.questions if question.kind == SEVERAL]
    if not known:
        return None
    chosen = pick(known, rng)
    answer = with_phrases(ended(chosen.answer), sample, rules)
    return Turn(with_boxes(chosen.question, sample), answer, "regions_qa")


def _is_about_region(question: QuestionAnswer, kind: RegionKind | None) -> bool:
    if question.region is not None:
        return _is_kind(question.region, kind)
    return question.instance is not None


def _is_kind(region: Region | None, kind: RegionKind | None) -> TypeGuard[Region]:
    return region is not None and (kind is None or isinstance(region, _CLASSES[kind]))


def _index(question: QuestionAnswer) -> int:
    return -1 if question.instance is None else question.instance


def caption_region(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for a grounded caption of a region: the instance, with a related one if there is one."""
    relation = draw_relation(sample, rng, rules)
    index = relation.subject if relation is not None else None
    pieces: list[Piece] | None
    if relation is not None:
        pieces = _linked(sample, relation.subject, relation.predicate, relation.object, rules)
    else:
        alone = [index for index, instance in enumerate(sample.instances) if not instance.crowd]
        if not alone:
            return None
        index = pick(alone, rng)
        pieces = named(sample, index, rules)
    if pieces is None or index is None:
        return None
    region = draw_region(sample.instances[index], sample, rng, rules)
    question = asked("region_caption_grounded", rng, rules, region=region)
    return Turn(question, written([*pieces, "."]), "region_caption_grounded")


def named(sample: Sample, index: int, rules: Rules, *, another: bool = False) -> list[Piece] | None:
    """Return an article and the grounded name of an instance; None if it lacks a box."""
    group = unit_group(sample, [index], BOX, rules)
    name = short_name(sample.instances[index])
    if group is None:
        return None
    return ["another " if another else determiner(name), (name, group)]


def _linked(
    sample: Sample, subject: int, predicate: str, other: int, rules: Rules
) -> list[Piece] | None:
    alike = short_name(sample.instances[subject]) == short_name(sample.instances[other])
    first = named(sample, subject, rules)
    second = named(sample, other, rules, another=alike)
    if first is None or second is None:
        return None
    return [*first, f" {clause(predicate)} ", *second]


_REGION_RULES = ("region_kinds", "points_on_mask", "box_core", "scribble_width", "scribble_points")
_KIND_RULES: dict[RegionKind, tuple[str, ...]] = {
    "point": ("points_on_mask", "box_core"),
    "box": (),
    "scribble": ("points_on_mask", "box_core", "scribble_width", "scribble_points"),
    "mask": (),
}


def _describing(kind: RegionKind) -> TaskSpec:
    return TaskSpec(
        name=f"reg_{kind}",
        family="regions",
        summary=f"Describe the instance at a {kind}.",
        needs="a description, or an instance" + (", with a mask" if kind == "mask" else ""),
        takes=(kind,),
        gives=("words",),
        rules=(*_KIND_RULES[kind], "wording"),
        wordings=("reg",),
        make=single(describe, task=f"reg_{kind}", kind=kind),
    )


SPECS = (
    TaskSpec(
        name="reg",
        family="regions",
        summary="Referring expression generation: describe the instance at a region.",
        needs="a description, or an instance",
        takes=REGION_KINDS,
        gives=("words",),
        rules=(*_REGION_RULES, "wording"),
        wordings=("reg",),
        make=single(describe, task="reg"),
    ),
    *(_describing(kind) for kind in REGION_KINDS),
    TaskSpec(
        name="reg_unique",
        family="regions",
        summary="Write an expression that refers to the instance at a region and to no other.",
        needs="an expression that refers to one instance",
        takes=REGION_KINDS,
        gives=("words",),
        rules=(*_REGION_RULES, "wording"),
        wordings=("reg_unique",),
        make=single(describe_only, task="reg_unique"),
    ),
    TaskSpec(
        name="loc_tag",
        family="regions",
        summary="A box marked in the question as TAMP marks it, answered with an expression.",
        needs="an expression that refers to one instance",
        takes=("box",),
        gives=("words",),
        rules=("wording",),
        wordings=("loc_tag",),
        make=single(describe_only, task="loc_tag", kind="box"),
    ),
    TaskSpec(
        name="region_qa",
        family="regions",
        summary="A question from the source about the instance at a region.",
        needs="a question about an instance or a region",
        takes=REGION_KINDS,
        gives=("words",),
        rules=_REGION_RULES,
        wordings=(),
        make=single(about_region, task="region_qa"),
    ),
    TaskSpec(
        name="regions_qa",
        family="regions",
        summary="A question from the source about several instances, given by their boxes.",
        needs="a question of kind `regions`",
        takes=("text", "box"),
        gives=("words", "box"),
        rules=(),
        wordings=(),
        make=single(about_regions),
    ),
    TaskSpec(
        name="point_local",
        family="regions",
        summary="A question from the source about the instance at a point (PointQA, local).",
        needs="a question about an instance or a point",
        takes=("point",),
        gives=("words",),
        rules=_KIND_RULES["point"],
        wordings=(),
        make=single(about_region, task="point_local", kind="point"),
    ),
    TaskSpec(
        name="region_caption_grounded",
        family="regions",
        summary="A caption of a region, with boxes for the instances that it names.",
        needs="a relation, or an instance",
        takes=REGION_KINDS,
        gives=BOX,
        rules=(
            *_REGION_RULES,
            *("common_predicates", "common_predicate_share", "predicate_attempts", "predicates"),
            "wording",
        ),
        wordings=("region_caption_grounded",),
        make=single(caption_region),
    ),
)
