"""The sampling rules of tasks, each with a name, a default and an origin."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from deixis.data.wording import wordings
from deixis.errors import RecipeError
from deixis.geometry.checks import checks_itself

Order = Literal["left_to_right", "area"]
Empty = Literal["denial", "group", "skip"]
RegionKind = Literal["point", "box", "scribble", "mask"]
Wording = Callable[[str], Sequence[str]]
"""Returns the wordings of a task by its name."""

_LETTERS = 26

REGION_KINDS: tuple[RegionKind, ...] = ("point", "box", "scribble", "mask")
_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"order": ("left_to_right", "area"), "empty": ("denial", "group", "skip")}
)


def _rule(says: str, source: str = "deixis") -> dict[str, str]:
    return {"says": says, "source": source}


@checks_itself
@dataclass(frozen=True, slots=True)
class Rules:
    """How tasks sample; the defaults are those that the shipped model was trained with.

    Every field is one rule. `describe_rules` returns the meaning and origin of each.

    Raises:
        RecipeError: A share is not in [0, 1], a number is too small, or a value has the wrong type or
            is not one of the rule's choices.
    """

    max_references: int = field(
        default=16,
        metadata=_rule(
            "Maximum number of references in an answer; questions with more are not asked."
        ),
    )
    order: Order = field(
        default="left_to_right",
        metadata=_rule(
            "Order of the references of a group: `left_to_right`, or `area` with the smallest first.",
            "`area`: Pink, public code",
        ),
    )
    empty: Empty = field(
        default="denial",
        metadata=_rule(
            "The answer about something absent: a `denial` in words, a `group` without references "
            "on the words of the denial, or `skip`, which asks no such question.",
            "`group`: Pink, public code, which writes N/A",
        ),
    )
    absent_share: float = field(
        default=0.15,
        metadata=_rule(
            "Share of questions about a class or a quadrant whose answer is that nothing is there."
        ),
    )
    class_by_count: bool = field(
        default=False,
        metadata=_rule(
            "Draw one of the distinct numbers of instances first, then a class with that number; "
            "otherwise every class is equally likely.",
            "Pink, public code",
        ),
    )
    attribute_share: float = field(
        default=0.5,
        metadata=_rule("Share of class names that get an attribute, as in `red circle`."),
    )
    clear_visibility: float = field(
        default=0.3,
        metadata=_rule(
            "Classes with an instance whose visible share is lower are neither counted nor detected."
        ),
    )
    common_predicates: frozenset[str] = field(
        default=frozenset({"on", "has", "wearing", "of", "in"}),
        metadata=_rule("Predicates that are drawn less often.", "Pink, public code"),
    )
    common_predicate_share: float = field(
        default=0.2,
        metadata=_rule("Share of draws of a common predicate that are kept.", "Pink, public code"),
    )
    predicate_attempts: int = field(
        default=100,
        metadata=_rule(
            "Maximum number of draws of a relation; the last one is kept.", "Pink, public code"
        ),
    )
    predicates: frozenset[str] | None = field(
        default=None,
        metadata=_rule("The predicates to ask for; without a list, all of them."),
    )
    anchor_words_share: float = field(
        default=0.5,
        metadata=_rule(
            "Share of quadrant anchors that are given in words; the others are boxes.",
            "Pink, public code",
        ),
    )
    quadrant_ties: bool = field(
        default=False,
        metadata=_rule(
            "Whether an instance level with the anchor counts as right of it, or below it; otherwise it is "
            "in no quadrant."
        ),
    )
    bare_share: float = field(
        default=0.5, metadata=_rule("Share of `locate` questions that are only the expression.")
    )
    region_kinds: tuple[RegionKind, ...] = field(
        default=REGION_KINDS,
        metadata=_rule(
            "Kinds of regions to draw from, for tasks that do not fix one.",
            "REF-VLM, section III-B",
        ),
    )
    points_on_mask: bool = field(
        default=True,
        metadata=_rule(
            "Draw points and scribbles on the mask if there is one, which decodes it; otherwise draw "
            "them in the core of the box."
        ),
    )
    box_core: float = field(
        default=0.5,
        metadata=_rule(
            "Share of a box's width and height, around its centre, for points without a mask."
        ),
    )
    scribble_width: float = field(
        default=0.02,
        metadata=_rule("Width of a drawn scribble, as a fraction of the image's longer side."),
    )
    scribble_points: int = field(default=3, metadata=_rule("Number of points of a drawn scribble."))
    max_turns: int = field(
        default=6,
        metadata=_rule(
            "Maximum number of turns that one task makes for a conversation.",
            "REF-VLM, public code",
        ),
    )
    max_listed: int = field(
        default=4,
        metadata=_rule("Maximum number of classes in one question."),
    )
    max_options: int = field(
        default=4,
        metadata=_rule(
            "Maximum number of options of a question.", "Visual7W, as in Pink, section 4"
        ),
    )
    max_sentences: int = field(
        default=2,
        metadata=_rule("Maximum number of sentences of a caption that is made from relations."),
    )
    true_share: float = field(default=0.5, metadata=_rule("Share of statements that are true."))
    pronoun_share: float = field(
        default=0.5,
        metadata=_rule(
            "Share of later turns of a dialogue that use `it` instead of a region, where possible."
        ),
    )
    short_words: int = field(
        default=3, metadata=_rule("Maximum number of words of a short answer.")
    )
    detailed_words: int = field(
        default=20,
        metadata=_rule(
            "Minimum number of words of a detailed caption with a single sentence.",
            "TAMP, Table 12, detailed description",
        ),
    )
    wording: Wording = field(
        default=wordings,
        metadata=_rule(
            "Function that returns the wordings of a task: those of the package, your own, or one prompt."
        ),
    )

    def __post_init__(self) -> None:
        for rule in fields(self):
            _check(rule.name, getattr(self, rule.name), rule.default)
        if not 2 <= self.max_options <= _LETTERS or self.max_listed < 2:
            raise RecipeError(
                f"rules max_options and max_listed: expected 2 or more, and {_LETTERS} options at "
                f"most, got {self.max_options} and {self.max_listed}"
            )


def _check(name: str, value: object, default: object) -> None:
    """Check a value of a rule.

    Raises:
        RecipeError: The rule does not allow the value.
    """
    wanted: str | None = None
    if name in _CHOICES:
        wanted = None if value in _CHOICES[name] else f"one of {_CHOICES[name]}"
    elif name == "region_kinds":
        fits = isinstance(value, tuple) and value and set(value) <= set(REGION_KINDS)
        wanted = None if fits else f"some of {REGION_KINDS}"
    elif isinstance(default, bool):
        wanted = None if isinstance(value, bool) else "True or False"
    elif isinstance(default, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        wanted = None if fits else "a share in [0, 1]"
    elif isinstance(default, int):
        wanted = None if type(value) is int and value >= 1 else "1 or more"
    elif name == "wording":
        wanted = None if callable(value) else "a function of a task's name"
    elif not isinstance(value, frozenset) and (name != "predicates" or value is not None):
        wanted = "a frozenset of predicates"
    if wanted is not None:
        raise RecipeError(f"rule {name}: expected {wanted}, got {value!r}")


DEFAULT_RULES = Rules()
"""The default rules."""

RULE_SETS: Mapping[str, Rules] = MappingProxyType(
    {
        "deixis": DEFAULT_RULES,
        "pink": Rules(
            order="area",
            empty="group",
            class_by_count=True,
            attribute_share=0.0,
            region_kinds=("box",),
        ),
    }
)
"""Rule sets by name: deixis's defaults, and those of Pink's paper."""


def parse_rules(name: str = "deixis", changes: Sequence[str] = ()) -> Rules:
    """Return a named rule set with changes, each as ``rule=value``.

    Several words are separated by ``|``; ``on`` and ``off`` switch a rule, ``none`` removes its value.

    >>> rules = parse_rules("pink", ["absent_share=0.3", "region_kinds=box|mask"])
    >>> rules.order, rules.absent_share, rules.region_kinds
    ('area', 0.3, ('box', 'mask'))

    Raises:
        RecipeError: A name or a rule is unknown, or the rule does not allow the value.
    """
    if name not in RULE_SETS:
        raise RecipeError(f"rules {name!r}: expected one of {sorted(RULE_SETS)}")
    known = {rule.name: rule.default for rule in fields(Rules) if rule.name != "wording"}
    values: dict[str, Any] = {}
    for change in changes:
        rule, equals, text = change.partition("=")
        if not equals or rule not in known:
            raise RecipeError(f"rule {change!r}: expected RULE=VALUE, with a rule of {list(known)}")
        values[rule] = _parsed(rule, text, known[rule])
    return replace(RULE_SETS[name], **values)


def _parsed(name: str, text: str, default: object) -> object:
    try:
        if isinstance(default, bool):
            return {"on": True, "off": False}[text]
        if isinstance(default, int | float):
            return type(default)(text)
    except (KeyError, ValueError):
        wanted = "on or off" if isinstance(default, bool) else f"a number such as {default}"
        raise RecipeError(f"rule {name}: expected {wanted}, got {text!r}") from None
    words = tuple(word.strip() for word in text.split("|"))
    if isinstance(default, tuple):
        return words
    if name == "predicates" and text == "none":
        return None
    return text if isinstance(default, str) else frozenset(words)


def changed_rules(rules: Rules) -> dict[str, dict[str, object]]:
    """Return a plan's record of the rules: only those that differ from the defaults."""
    changed = {}
    for rule in fields(Rules):
        value = getattr(rules, rule.name)
        if rule.name != "wording" and value != rule.default:
            # sorted, so that equal rules have equal records
            changed[rule.name] = sorted(value) if isinstance(value, frozenset) else value
    return {"rules": changed} if changed else {}


def describe_rules() -> list[dict[str, str]]:
    """Return name, default, meaning and origin of every rule, in the order of the fields."""
    return [
        {
            "name": rule.name,
            "default": _shown(rule.default),
            "says": rule.metadata["says"],
            "source": rule.metadata["source"],
        }
        for rule in fields(Rules)
    ]


def _shown(value: object) -> str:
    if isinstance(value, frozenset | tuple):
        return ", ".join(sorted(value) if isinstance(value, frozenset) else value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    return "the package's own" if callable(value) else str(value)
