"""Checks expressions with a second reader, which maps words directly to instances.

The reader shares no code with the generator: no margins, no bit sets, no uncertainty. If words are
used correctly, every sensible threshold gives the same instances, so each test uses several.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest

from deixis.data.scenes import Scene, draw_scene
from deixis.data.scenes.scene import Thing
from deixis.data.scenes.scene_sample import scene_sample
from deixis.data.scenes.vocabulary import COLORS, LEVELS, NAMES, SHAPES
from deixis.structures import Sample

Things = frozenset[int]
PLURALS = {"people": "person", "boxes": "box", "crosses": "cross", "shelves": "shelf"}


@dataclass(frozen=True)
class Reading:
    """The thresholds of the reader."""

    half: float = 0.45
    middle: float = 0.15
    aside: float = 0.05
    gap: float = 0.12
    shirts_only: bool = True
    """Whether "in red" refers only to the shirt, not to a hat."""
    slip: float = 0.0
    """Position error of the reader in either direction when it orders instances."""


class Reader:
    def __init__(self, scene: Scene, reading: Reading) -> None:
        self.scene, self.reading = scene, reading
        self.things = scene.things
        self.everything = frozenset(range(len(scene.things)))

    def meaning(self, text: str) -> Things:
        words = re.sub(r"^(all the|all|both|every|the) ", "", text)
        for pattern, relation in RELATIONS:
            match = re.fullmatch(pattern, words)
            if match:
                anchors = self.located(match["anchor"])
                assert len(anchors) == 1, f"{text!r}: {match['anchor']!r} means {anchors}"
                (anchor,) = anchors
                base = self.located(match["base"])
                return frozenset(i for i in base if i != anchor and relation(self, i, anchor))
        return self.located(words)

    def located(self, words: str) -> Things:
        for pattern, place in PLACES:
            match = re.fullmatch(pattern, words)
            if match:
                return place(self, self.named(match["base"].strip()), match)
        return self.named(words)

    def named(self, words: str) -> Things:
        match = re.fullmatch(
            rf"(?:(?P<size>small|large|big|medium-sized) )?(?:(?P<texture>plain|striped|dotted) )?"
            rf"(?:(?P<color>{'|'.join(COLORS)}) )?"
            rf"(?P<noun>[a-z]+)(?: (?P<symbol>[A-Z0-9]))?(?P<tail>(?: (?:in|wearing|holding|with) .+)?)",
            words,
        )
        assert match, f"cannot read {words!r}"
        noun = PLURALS.get(match["noun"], match["noun"])
        if noun not in {*NAMES, "shape"}:
            noun = noun.removesuffix("s")
        assert noun in {*NAMES, "shape"}, f"cannot read {words!r}: {noun!r}"
        size: str | None = {"big": "large", "medium-sized": "medium"}.get(
            match["size"], match["size"]
        )
        found = set()
        for index, thing in enumerate(self.things):
            fits = thing.name == noun or (noun == "shape" and thing.name in SHAPES)
            fits = fits and (size is None or thing.size == size)
            fits = fits and (match["texture"] is None or thing.texture == match["texture"])
            fits = fits and (match["color"] is None or thing.color == match["color"])
            fits = fits and (match["symbol"] is None or thing.symbol == match["symbol"])
            if fits and self.dressed(thing, match["tail"]):
                found.add(index)
        return frozenset(found)

    def dressed(self, thing: Thing, tail: str) -> bool:
        if not tail:
            return True
        shirt = re.match(r" in an? (?:(striped|dotted) ?)?(\w+)? ?shirt", tail) or re.match(
            r" in (?:(striped|dotted) ?)?(\w+)? ?shirts", tail
        )
        if shirt:
            fits = shirt[1] in {None, thing.texture} and shirt[2] in {None, thing.color}
            return fits and self.dressed(thing, tail[shirt.end() :])
        plain = re.match(rf" (?:in|wearing) ({'|'.join(COLORS)})\b", tail)
        if plain:
            worn = [] if self.reading.shirts_only else [self.things[i].color for i in thing.wears]
            return plain[1] in {thing.color, *worn} and self.dressed(thing, tail[plain.end() :])
        part = re.fullmatch(r" (holding|with|wearing) an? (\w+)", tail)
        assert part, f"cannot read {tail!r}"
        parts = thing.wears if part[1] == "wearing" else thing.holds
        return any(self.things[index].name == part[2] for index in parts)

    def box(self, index: int) -> tuple[float, float, float, float]:
        box = self.things[index].box
        assert box is not None
        height, width = self.scene.size
        return box[0] / width, box[1] / height, box[2] / width, box[3] / height

    def center(self, index: int) -> tuple[float, float]:
        x1, y1, x2, y2 = self.box(index)
        return (x1 + x2) / 2, (y1 + y2) / 2

    def area(self, index: int) -> float:
        x1, y1, x2, y2 = self.box(index)
        return (x2 - x1) * (y2 - y1)


def _within(reader: Reader, index: int, where: str) -> bool:
    x, y = reader.center(index)
    half = reader.reading.half
    tests = {"left": x < half, "right": x > 1 - half, "top": y < half, "upper": y < half}
    tests |= {"bottom": y > 1 - half, "lower": y > 1 - half}
    near = max(abs(x - 0.5), abs(y - 0.5)) < reader.reading.middle
    tests |= {"middle": near, "center": near}
    return all(tests[word] for word in where.split())


def _region(reader: Reader, base: Things, match: re.Match[str]) -> Things:
    return frozenset(i for i in base if _within(reader, i, match["where"]))


def _sorted(reader: Reader, base: Things, side: str) -> list[int]:
    axis = 0 if side in {"left", "right"} else 1
    slip = reader.reading.slip
    return sorted(
        base,
        key=lambda i: reader.center(i)[axis] + (slip if i % 2 else -slip),
        reverse=side in {"right", "bottom", "lower"},
    )


def _outermost(reader: Reader, base: Things, match: re.Match[str]) -> Things:
    side = {"highest": "top", "lowest": "bottom"}.get(match["side"], match["side"])
    return frozenset(_sorted(reader, base, side)[:1])


def _before_noun(reader: Reader, base: Things, match: re.Match[str]) -> Things:
    """``left star``: the outermost of several on that side, consistent with a reading by halves."""
    side = {"upper": "top", "lower": "bottom"}.get(match["side"], match["side"])
    if side in {"middle", "center"}:
        by_region = frozenset(i for i in base if _within(reader, i, side))
        order = _sorted(reader, base, "left")
        if len(base) != 3:
            return by_region
        return frozenset({order[1]})
    return frozenset(_sorted(reader, base, side)[:1])


def _ordinal(reader: Reader, base: Things, match: re.Match[str]) -> Things:
    place = ("first", "second", "third", "fourth").index(match["ordinal"])
    return frozenset(_sorted(reader, base, match["side"])[place : place + 1])


def _extreme(reader: Reader, base: Things, match: re.Match[str]) -> Things:
    pick = min if match["extreme"] == "smallest" else max
    return frozenset({pick(base, key=reader.area)})


_Place = Callable[[Reader, Things, "re.Match[str]"], Things]
_CORNER = r"(?P<where>(?:top|bottom|upper|lower) (?:left|right))"
_HALF = r"(?P<where>left|right|top|bottom|middle|center)"
PLACES: list[tuple[str, _Place]] = [
    (rf"(?P<base>.+?) in the {_CORNER} corner", _region),
    (rf"(?P<base>.+?) at the {_CORNER}", _region),
    (rf"{_CORNER} (?P<base>.+)", _region),
    (rf"(?P<base>.+?) {_CORNER}", _region),
    (
        r"(?P<ordinal>first|second|third|fourth) (?P<base>.+) from (?:the )?(?P<side>left|right)",
        _ordinal,
    ),
    (r"(?P<base>.+?) (?:farthest to the|furthest|nearest the) (?P<side>\w+)", _outermost),
    (r"far (?P<side>left|right) (?P<base>.+)", _outermost),
    (r"(?P<side>left|right|top|bottom)most (?P<base>.+)", _outermost),
    (r"(?P<side>highest|lowest) (?P<base>.+)", _outermost),
    (r"(?P<extreme>largest|biggest|smallest) (?P<base>.+)", _extreme),
    (rf"(?P<base>.+?) (?:on|to|at|near|in) the {_HALF}(?: side)?", _region),
    (r"(?P<base>.+?) in the (?P<where>upper|lower) half", _region),
    (rf"(?P<base>.+?) (?:on |at |in |up )?{_HALF}", _region),
    (r"(?P<side>left|right)-hand (?P<base>.+)", _before_noun),
    (r"(?P<side>left|right|top|bottom|upper|lower|middle|center) (?P<base>.+)", _before_noun),
]


def _beside(axis: int, sign: int) -> Callable[[Reader, int, int], bool]:
    def test(reader: Reader, index: int, anchor: int) -> bool:
        far = sign * (reader.center(anchor)[axis] - reader.center(index)[axis])
        return far > reader.reading.aside

    return test


def _near(reader: Reader, index: int, anchor: int) -> bool:
    box, other = reader.box(index), reader.box(anchor)
    across = max(box[0], other[0]) - min(box[2], other[2])
    down = max(box[1], other[1]) - min(box[3], other[3])
    return 0 < max(across, down) < reader.reading.gap


_A = r"the (?P<anchor>.+)"
_B = r"(?P<base>.+?)"
_IS = r"(?:that is |who is )?"
RELATIONS: list[tuple[str, Callable[[Reader, int, int], bool]]] = [
    (rf"{_B} that {_A} is holding", lambda r, i, a: i in r.things[a].holds),
    (rf"{_B} that {_A} is wearing", lambda r, i, a: i in r.things[a].wears),
    (rf"{_B} {_IS}(?:holding|who holds) {_A}", lambda r, i, a: a in r.things[i].holds),
    (rf"{_B} {_IS}(?:wearing|who wears) {_A}", lambda r, i, a: a in r.things[i].wears),
    (rf"{_B} (?:held by|in the hand of) {_A}", lambda r, i, a: i in r.things[a].holds),
    (rf"{_B} (?:worn by|on the head of) {_A}", lambda r, i, a: i in r.things[a].wears),
    (rf"{_B} {_IS}(?:to the left of|left of|on the left of) {_A}", _beside(0, 1)),
    (rf"{_B} {_IS}(?:to the right of|right of|on the right of) {_A}", _beside(0, -1)),
    (rf"{_B} {_IS}(?:above|higher up than) {_A}", _beside(1, 1)),
    (rf"{_B} {_IS}(?:below|under) {_A}", _beside(1, -1)),
    (rf"{_B} {_IS}(?:next to|beside) {_A}", _near),
    (
        rf"{_B} (?:that is on|standing on|on) the (?P<anchor>(?!left|right).+)",
        lambda r, i, a: r.things[i].on == a,
    ),
    (
        rf"{_B} (?:that is in|inside|in) the (?P<anchor>(?!upper|lower|middle|center|top|bottom|hand).+)",
        lambda r, i, a: r.things[i].inside == a,
    ),
]


SCENES = 40


@cache
def _scenes(level: str) -> list[tuple[Scene, Sample]]:
    scenes = [draw_scene(11, index, level=level) for index in range(SCENES)]
    return [(scene, scene_sample(scene)) for scene in scenes]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "reading",
    [
        Reading(),
        Reading(half=0.41, middle=0.11, aside=0.03, gap=0.09, slip=0.028),
        Reading(half=0.49, middle=0.21, aside=0.075, gap=0.17, slip=-0.028, shirts_only=False),
    ],
    ids=["usual", "narrow", "wide"],
)
def test_a_second_reader_finds_the_same_instances(level: str, reading: Reading) -> None:
    wrong = []
    for scene, sample in _scenes(level):
        reader = Reader(scene, reading)
        for expression in sample.expressions:
            found = reader.meaning(expression.text)
            if found != set(expression.instances):
                wrong.append((sample.id, expression, sorted(found)))
    assert not wrong, f"{len(wrong)}: {wrong[:5]}"


@pytest.mark.parametrize("level", LEVELS)
def test_expressions_follow_the_rule_of_their_family(level: str) -> None:
    where = re.compile(r"\b(left|right|top|bottom|middle|center|upper|lower|above|below|next)\b")
    for _, sample in _scenes(level):
        for expression in sample.expressions:
            if expression.family == "appearance" and expression.instances:
                assert not where.search(expression.text), expression
            assert expression.family in {"location", "appearance", "long"}


def test_every_kind_of_expression_is_made() -> None:
    made = [expression for _, sample in _scenes("standard") for expression in sample.expressions]
    for family in ("location", "appearance", "long"):
        one = [e for e in made if e.family == family and len(e.instances) == 1]
        assert len(one) > SCENES, f"{family}: {len(one)} expressions of one thing"
    assert sum(len(e.instances) > 1 for e in made) > SCENES / 2
    assert sum(not e.instances for e in made) > SCENES


def test_no_text_has_two_meanings_in_one_scene() -> None:
    for level in LEVELS:
        for _, sample in _scenes(level):
            texts = [expression.text for expression in sample.expressions]
            assert len(texts) == len(set(texts))


def test_articles_and_plurals_are_english() -> None:
    wrong = re.compile(
        r"(?<!letter )(?<!letters )\b[Aa] [aeiou]|\b[Aa]n [^aeiou]|\bpersons\b|\bboxs\b|\bcrosss|\bshelfs\b|  |\bthe the\b"
        r"|\b(?:all|both|all the) (?:\w+ )*?(?:star|circle|square|letter|person)$"
    )
    for level in LEVELS:
        for _, sample in _scenes(level):
            texts = [expression.text for expression in sample.expressions]
            texts += [caption.text for caption in sample.captions]
            texts += [words for qa in sample.questions for words in (qa.question, qa.answer)]
            for text in texts:
                assert not wrong.search(text), text
                assert text == text.strip()
