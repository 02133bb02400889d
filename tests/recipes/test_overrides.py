"""Overrides of recipe fields by path, checked against their types."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from tiny import tiny_recipe

from deixis.errors import RecipeError
from deixis.notation import NOTATIONS
from deixis.recipes import apply_overrides, recipe_from_json, recipe_to_json
from deixis.training.recipe import ModelChoice, TrainRecipe


class Kind(StrEnum):
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class Rate:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int | None = None

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr {self.lr} is not positive")


@dataclass(frozen=True, slots=True)
class Linear:
    slope: float = 1.0


@dataclass(frozen=True, slots=True)
class Cosine:
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Phase:
    name: str = "all"
    steps: int = 10
    rate: Rate = field(default_factory=Rate)
    parts: tuple[str, ...] = ()
    shape: Linear | Cosine = field(default_factory=Linear)


@dataclass(frozen=True, slots=True)
class Run:
    phases: tuple[Phase, ...] = (Phase(), Phase("second"))
    precision: Literal["float32", "bfloat16"] = "float32"
    resume: bool = False
    weights: tuple[tuple[str, float], ...] = (("plain", 0.5), ("hard", 0.5))
    kind: Kind = Kind.SMALL
    folder: Path | None = None
    limit: int | Literal["none at all"] = 3


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("phases.1.rate.lr=1e-4", lambda run: run.phases[1].rate.lr, 1e-4),
        ("phases.0.rate.lr=2", lambda run: run.phases[0].rate.lr, 2.0),
        ("phases.0.steps=20", lambda run: run.phases[0].steps, 20),
        ("phases.0.name=a=b", lambda run: run.phases[0].name, "a=b"),
        ("phases.0.name=", lambda run: run.phases[0].name, ""),
        ("phases.0.rate.betas=0.8,0.9", lambda run: run.phases[0].rate.betas, (0.8, 0.9)),
        ("phases.0.rate.betas.1=0.5", lambda run: run.phases[0].rate.betas, (0.9, 0.5)),
        ("phases.0.parts=box,mask", lambda run: run.phases[0].parts, ("box", "mask")),
        ("phases.0.parts=", lambda run: run.phases[0].parts, ()),
        ("phases.0.parts=[]", lambda run: run.phases[0].parts, ()),
        ("phases.0.rate.warmup=5", lambda run: run.phases[0].rate.warmup, 5),
        ("phases.0.rate.warmup=none", lambda run: run.phases[0].rate.warmup, None),
        ("phases.0.shape.slope=3", lambda run: run.phases[0].shape, Linear(3.0)),
        ("precision=bfloat16", lambda run: run.precision, "bfloat16"),
        ("resume=true", lambda run: run.resume, True),
        ("resume=no", lambda run: run.resume, False),
        ('weights=[["plain", 1]]', lambda run: run.weights, (("plain", 1.0),)),
        ("weights.1.1=0.25", lambda run: run.weights[1], ("hard", 0.25)),
        ("kind=large", lambda run: run.kind, Kind.LARGE),
        ("folder=runs/a", lambda run: run.folder, Path("runs/a")),
        ("limit=none at all", lambda run: run.limit, "none at all"),
        (" precision = bfloat16 ", lambda run: run.precision, "bfloat16"),
    ],
)
def test_a_field_is_parsed_by_its_type(override: str, read: Any, value: object) -> None:
    changed = read(apply_overrides(Run(), [override]))
    assert changed == value
    assert type(changed) is type(value)


def test_overrides_apply_in_order_and_leave_the_rest() -> None:
    run = apply_overrides(Run(), ["phases.0.steps=1", "phases.0.steps=2", "resume=yes"])
    assert run == Run(phases=(Phase(steps=2), Phase("second")), resume=True)
    same = Run()
    assert apply_overrides(same, []) is same


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps", "expected path=value, as in seed=1"),
        ("=3", "expected path=value"),
        ("phase.0.steps=3", "Run has no field 'phase'; it has phases, precision, resume, weights"),
        ("phases.0.stepz=3", "Phase has no field 'stepz'; it has name, steps, rate, parts, shape"),
        ("phases.2.steps=3", "no entry '2'; expected 0 to 1"),
        ("phases.-1.steps=3", "no entry '-1'"),
        ("phases.x.steps=3", "no entry 'x'"),
        ("phases.0.parts.0=a", "no entry '0'; expected none, it is empty"),
        ("phases.0.steps.deep=3", "a value of type int has no part 'deep'"),
        ("phases.0.steps=many", "expected an integer, got 'many'"),
        ("phases.0.steps=1.5", "expected an integer, got '1.5'"),
        ("phases.0.steps=true", "expected an integer"),
        ("phases.0.rate.lr=nan", "expected a number, got 'nan'"),
        ("phases.0.rate.lr=inf", "expected a number"),
        ("phases.0.rate.lr=-1", "refused: lr -1.0 is not positive"),
        ("phases.0.rate.betas=1", "expected a tuple of a number, a number, got '1'"),
        ("phases.0.rate.betas=a,b", "expected a tuple of a number, a number"),
        ("phases.0.rate.betas=[1,2", "expected a tuple"),
        ("phases.0.parts=1,2", "expected a tuple of text"),
        ("phases.0.rate=fast", "Rate is set field by field: lr, betas, warmup"),
        ("phases.0.rate.warmup=x", "expected an integer or none, got 'x'"),
        ("precision=float16", "expected one of float32, bfloat16, got 'float16'"),
        ("resume=maybe", "expected true or false, got 'maybe'"),
        ("kind=huge", "expected one of small, large"),
        ("weights=plain", "expected a tuple"),
    ],
)
def test_invalid_overrides_are_a_one_line_error(override: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        apply_overrides(Run(), [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert override in str(caught.value)


@pytest.mark.parametrize(
    "run",
    [
        Run(),
        Run(phases=(Phase(shape=Cosine(0.1, 0.9), rate=Rate(warmup=3)),), limit="none at all"),
        Run(phases=(), weights=(), resume=True),
    ],
)
def test_a_recipe_round_trips_through_json(run: Run) -> None:
    assert recipe_from_json(Run, recipe_to_json(run)) == run


@dataclass(frozen=True, slots=True)
class Named:
    """A class with a required field."""

    name: str
    shape: Linear | Cosine = field(default_factory=Linear)


def test_a_field_that_an_earlier_release_lacked_has_its_default() -> None:
    text = recipe_to_json(Run()).replace('  "resume": false,\n', "", 1)
    assert recipe_from_json(Run, text) == Run()
    # of several classes, the one with the saved fields
    text = '{"name": "x", "shape": {"high": 0.5}}'
    assert recipe_from_json(Named, text) == Named("x", Cosine(high=0.5))
    with pytest.raises(RecipeError, match="Named lacks its field 'name'"):
        recipe_from_json(Named, "{}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("{", ""), "recipe is not JSON"),
        (('"steps": 10', '"steps": "10"'), "recipe.phases.0.steps: expected an integer, got '10'"),
        (('"steps": 10', '"steps": 1.0'), "expected an integer"),
        (('"resume": false', '"resume": 0'), "recipe.resume: expected true or false, got 0"),
        (('"resume": false', '"resumed": false'), "Run has no field 'resumed'"),
        (('"lr": 0.001', '"lr": -1'), "recipe.phases.0.rate: refused"),
        (('"lr": 0.001', '"lr": NaN'), "recipe.phases.0.rate.lr: expected a number"),
    ],
)
def test_json_that_is_not_a_recipe_is_refused(change: tuple[str, str], words: str) -> None:
    text = recipe_to_json(Run()).replace(*change, 1)
    with pytest.raises(RecipeError, match="recipe") as caught:
        recipe_from_json(Run, text)
    assert words in str(caught.value)


def test_a_missing_field_has_its_default_or_is_an_error() -> None:
    text = recipe_to_json(Run(phases=(Phase(shape=Cosine(0.1, 0.9)),), resume=True))
    fields = json.loads(text)
    del fields["resume"], fields["phases"][0]["rate"], fields["phases"][0]["shape"]["high"]
    found = recipe_from_json(Run, json.dumps(fields))
    assert found == Run(phases=(Phase(shape=Cosine(0.1, 1.0)),))

    @dataclass(frozen=True)
    class Named:
        name: str
        steps: int = 3

    assert recipe_from_json(Named, '{"name": "x"}') == Named("x")
    with pytest.raises(RecipeError, match="recipe: Named lacks its field 'name'"):
        recipe_from_json(Named, '{"steps": 3}')


def test_json_of_another_shape_is_refused() -> None:
    with pytest.raises(RecipeError, match="recipe: expected Run, got"):
        recipe_from_json(Run, "[]")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), print])
def test_values_that_json_cannot_hold_are_refused(value: object) -> None:
    @dataclass(frozen=True)
    class Odd:
        value: object

    with pytest.raises(RecipeError, match="cannot be written as JSON"):
        recipe_to_json(Odd(value))


def test_only_a_dataclass_is_a_recipe() -> None:
    with pytest.raises(RecipeError, match="a recipe of type dict: expected a dataclass"):
        recipe_to_json({})


@pytest.mark.parametrize("notation", NOTATIONS)
def test_a_recipe_takes_every_notation(notation: str) -> None:
    changed = apply_overrides(tiny_recipe(), [f"model.notation={notation}"])
    assert isinstance(changed.model, ModelChoice)
    assert changed.model.notation == notation


def test_a_recipe_with_an_unknown_notation_is_refused() -> None:
    expected = "notation 'braille': expected one of triplets, triplets_plan, tokens"
    with pytest.raises(RecipeError, match=f"override 'model.notation=braille': {expected}"):
        apply_overrides(tiny_recipe(), ["model.notation=braille"])
    text = recipe_to_json(tiny_recipe()).replace('"triplets"', '"braille"')
    with pytest.raises(RecipeError, match=expected):
        recipe_from_json(TrainRecipe, text)
