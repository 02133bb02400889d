"""The facts of a scene, and noun phrases that describe exactly certain instances.

A set of instances is an int with one bit for each instance. A predicate has two such sets: the
instances that certainly satisfy it, and those that possibly do. Words are used only if both sets are
equal, so borderline cases never decide the meaning of an expression.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from deixis.data.scenes.scene import Corners, Scene, Thing
from deixis.data.scenes.vocabulary import SHAPES
from deixis.errors import AnnotationError
from deixis.language import article, plural

CLEAR_VISIBILITY = 0.3
"""Least visible share of a target. Words that possibly mean an instance below it are not used."""

WHOLE_VISIBILITY = 0.6
"""Least visible share from which the size of an instance is recognisable."""

CLEAR_PIXELS = 24
"""Least visible box area of a target, in pixels."""


class Extent(NamedTuple):
    """Bit sets of the instances that satisfy a predicate certainly, and possibly."""

    certain: int
    possible: int

    def __and__(self, other: "Extent") -> "Extent":
        return Extent(self.certain & other.certain, self.possible & other.possible)

    @property
    def is_exact(self) -> bool:
        """Whether the two sets are equal."""
        return self.certain == self.possible

    def means_only(self, index: int) -> bool:
        """Return whether the predicate is certainly true of ``index`` and of no other instance."""
        return self.certain == self.possible == 1 << index


def bit_indices(bits: int) -> tuple[int, ...]:
    """Return the positions of the set bits, ascending."""
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return tuple(found)


class NounPhrase(NamedTuple):
    """Words without article (``small red circle``) and the instances that they describe.

    ``modifiers`` ends and ``tail`` begins with a space; ``tails`` is the tail in the plural.
    ``cost`` rises with the number of words and with how unusual they are.
    """

    modifiers: str
    noun: str
    tail: str
    tails: str
    extent: Extent
    cost: int

    @property
    def words(self) -> str:
        """The phrase in the singular."""
        return f"{self.modifiers}{self.noun}{self.tail}"

    @property
    def many(self) -> str:
        """The phrase in the plural."""
        return f"{self.modifiers}{plural(self.noun)}{self.tails}"


def visible_box(thing: Thing) -> Corners:
    """Return the box of the visible part, ``xyxy`` in pixels.

    Raises:
        AnnotationError: The instance is wholly hidden, which does not occur in a drawn scene.
    """
    if thing.box is None:
        raise AnnotationError(f"{thing.color} {thing.name} of a scene is wholly hidden")
    return thing.box


class Facts:
    """Looks up the attributes and positions of the instances of a scene.

    Positions are those of the visible box, as fractions of the width and height.
    """

    __slots__ = (
        "all_bits",
        "attributes",
        "boxes",
        "centers",
        "clear",
        "count",
        "phrases",
        "relations_seen",
        "scene",
        "things",
        "whole",
    )

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.things = scene.things
        self.count = len(scene.things)
        self.all_bits = (1 << self.count) - 1
        self.boxes: list[Corners] = []
        self.centers: list[tuple[float, float]] = []
        self.attributes: dict[tuple[str, str], int] = {}
        self.phrases: dict[int, list[NounPhrase]] = {}
        self.relations_seen: dict[tuple[str, int], Extent] = {}
        self.clear = self.whole = 0
        height, width = scene.size
        for index, thing in enumerate(scene.things):
            x1, y1, x2, y2 = visible_box(thing)
            self.boxes.append((x1 / width, y1 / height, x2 / width, y2 / height))
            self.centers.append(((x1 + x2) / (2 * width), (y1 + y2) / (2 * height)))
            if thing.visibility >= CLEAR_VISIBILITY and (x2 - x1) * (y2 - y1) >= CLEAR_PIXELS:
                self.clear |= 1 << index
            if thing.visibility >= WHOLE_VISIBILITY:
                self.whole |= 1 << index
            for key in _keys(thing):
                self.attributes[key] = self.attributes.get(key, 0) | 1 << index

    def having(self, attribute: str, value: str) -> Extent:
        """Return the instances with an attribute."""
        bits = self.attributes.get((attribute, value), 0)
        if attribute == "size":
            return Extent(bits & self.clear & self.whole, bits | self.all_bits & ~self.whole)
        return Extent(bits & self.clear, bits)

    def is_clear(self, index: int) -> bool:
        """Return whether an instance is visible enough to be a target."""
        return bool(self.clear >> index & 1)

    def area(self, index: int) -> float:
        """Return the area of the visible box, as a fraction of the picture."""
        x1, y1, x2, y2 = self.boxes[index]
        return (x2 - x1) * (y2 - y1)


def _keys(thing: Thing) -> Iterator[tuple[str, str]]:
    yield "name", thing.name
    yield "kind", thing.kind
    if thing.name in SHAPES:
        yield "family", "shape"
    if thing.color:
        yield "color", thing.color
    if thing.size:
        yield "size", thing.size
    if thing.texture:
        yield "texture", thing.texture
    if thing.symbol:
        yield "symbol", thing.symbol


def holders(facts: Facts, name: str) -> Extent:
    """Return the figures that hold an instance of class ``name``."""
    return _having_part(facts, name, lambda thing: thing.holds)


def wearers(facts: Facts, name: str) -> Extent:
    """Return the figures that wear an instance of class ``name``."""
    return _having_part(facts, name, lambda thing: thing.wears)


def _having_part(facts: Facts, name: str, parts: Callable[[Thing], tuple[int, ...]]) -> Extent:
    certain = possible = 0
    for index, thing in enumerate(facts.things):
        if thing.kind != "figure":
            continue
        held = [part for part in parts(thing) if facts.things[part].name == name]
        if any(facts.is_clear(part) for part in held) and facts.is_clear(index):
            certain |= 1 << index
        if held or _touches_named(facts, index, name):
            possible |= 1 << index
    return Extent(certain, possible)


def _touches_named(facts: Facts, index: int, name: str) -> bool:
    named = bit_indices(facts.attributes.get(("name", name), 0))
    return any(overlap(facts.boxes[index], facts.boxes[other]) for other in named)


def overlap(first: Corners, second: Corners) -> bool:
    """Return whether two boxes share any area."""
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def nouns(facts: Facts, index: int) -> list[tuple[str, Extent, int]]:
    """Return nouns for an instance with their extents and costs, the most usual first."""
    thing = facts.things[index]
    named = facts.having("name", thing.name)
    if thing.symbol:
        exact = named & facts.having("symbol", thing.symbol)
        return [(f"{thing.name} {thing.symbol}", exact, 0), (thing.name, named, 1)]
    if thing.name in SHAPES:
        return [(thing.name, named, 0), ("shape", facts.having("family", "shape"), 2)]
    return [(thing.name, named, 0)]


def appearance_phrases(facts: Facts, index: int) -> list[NounPhrase]:
    """Return all noun phrases without location words that are true of instance ``index``.

    They are sorted by cost. A phrase may also be true of other instances.
    """
    if index not in facts.phrases:
        is_figure = facts.things[index].kind == "figure"
        make = _figure_phrases if is_figure else _plain_phrases
        facts.phrases[index] = sorted(make(facts, index), key=_cost)
    return facts.phrases[index]


def _plain_phrases(facts: Facts, index: int) -> list[NounPhrase]:
    thing = facts.things[index]
    sizes = [*_NOTHING_SAID, *_size_options(facts, thing)]
    textures = [*_NOTHING_SAID, *_texture_options(facts, thing)]
    colors = [*_NOTHING_SAID, (f"{thing.color} ", facts.having("color", thing.color), 1)]
    phrases = []
    for noun, named, noun_cost in nouns(facts, index):
        for size, sized, size_cost in sizes:
            for texture, textured, texture_cost in textures:
                for color, colored, color_cost in colors:
                    certain = named.certain & sized.certain & textured.certain & colored.certain
                    possible = (
                        named.possible & sized.possible & textured.possible & colored.possible
                    )
                    cost = noun_cost + size_cost + texture_cost + color_cost
                    modifiers = f"{size}{texture}{color}"
                    extent = Extent(certain, possible)
                    phrases.append(NounPhrase(modifiers, noun, "", "", extent, cost))
    return phrases


_NOTHING_SAID = (("", Extent(-1, -1), 0),)


def _cost(phrase: NounPhrase) -> int:
    return phrase.cost


def _size_options(facts: Facts, thing: Thing) -> list[tuple[str, Extent, int]]:
    words = {"large": (("large ", 1), ("big ", 1)), "small": (("small ", 1),)}
    sized = facts.having("size", thing.size)
    return [(word, sized, cost) for word, cost in words.get(thing.size, (("medium-sized ", 3),))]


def _texture_options(facts: Facts, thing: Thing) -> list[tuple[str, Extent, int]]:
    if not thing.texture:
        return []
    textured = facts.having("texture", thing.texture)
    if thing.texture != "plain":
        return [(f"{thing.texture} ", textured, 1)]
    # "plain" is said only if the scene has patterns
    patterned = any(key[0] == "texture" and key[1] != "plain" for key in facts.attributes)
    return [("plain ", textured, 2)] if patterned else []


def _figure_phrases(facts: Facts, index: int) -> list[NounPhrase]:
    thing = facts.things[index]
    named = facts.having("name", thing.name)
    tails: list[tuple[str, str, Extent, int]] = [("", "", named, 0)]
    dressed: list[tuple[str, str, Extent, int]] = []
    colored = named & facts.having("color", thing.color)
    color = thing.color
    # a hat or crown of that colour also fits the words, so such figures are possible
    clothed = Extent(colored.certain, colored.possible | _wearing_color(facts, color))
    dressed.append((f" in {color}", f" in {color}", clothed, 1))
    dressed.append((f" in {article(color)} shirt", f" in {color} shirts", colored, 1))
    dressed.append((f" wearing {color}", f" wearing {color}", clothed, 1))
    if thing.texture in {"striped", "dotted"}:
        texture = thing.texture
        textured = named & facts.having("texture", texture)
        dressed.append((f" in a {texture} shirt", f" in {texture} shirts", textured, 1))
        both = f"{texture} {color}"
        dressed.append((f" in a {both} shirt", f" in {both} shirts", textured & colored, 2))
    carried = [("holding", holders, part) for part in thing.holds]
    carried += [("wearing", wearers, part) for part in thing.wears]
    for verb, users, part in carried:
        if facts.is_clear(part):
            item = article(facts.things[part].name)
            extent = named & users(facts, facts.things[part].name)
            tails.append((f" {verb} {item}", f" {verb} {item}", extent, 1))
            if verb == "holding":
                tails.append((f" with {item}", f" with {item}", extent, 1))
            tails += [
                (f"{tail} {verb} {item}", f"{many} {verb} {item}", extent & other, cost + 1)
                for tail, many, other, cost in dressed
                if " wearing " not in tail
            ]
    phrases = [
        NounPhrase("", thing.name, tail, many, extent, cost)
        for tail, many, extent, cost in [*tails, *dressed]
    ]
    if thing.size in {"small", "large"}:
        sized = facts.having("size", thing.size)
        phrases += [
            NounPhrase(f"{thing.size} ", thing.name, tail, many, extent & sized, cost + 1)
            for tail, many, extent, cost in [*tails, *dressed]
        ]
    return phrases


def _wearing_color(facts: Facts, color: str) -> int:
    bits = 0
    for index, thing in enumerate(facts.things):
        if any(facts.things[part].color == color for part in thing.wears):
            bits |= 1 << index
    return bits


def short_phrase(facts: Facts, index: int) -> tuple[str, str]:
    """Return colour and class of an instance, in the singular and the plural."""
    thing = facts.things[index]
    if thing.kind == "figure":
        return (
            f"{thing.name} in {article(thing.color)} shirt",
            f"{plural(thing.name)} in {thing.color} shirts",
        )
    one, many = f"{thing.color} {thing.name}", f"{thing.color} {plural(thing.name)}"
    return f"{one} {thing.symbol}".strip(), f"{many} {thing.symbol}".strip()


def full_description(facts: Facts, index: int) -> str:
    """Return a description of an instance with all notable attributes in a fixed order.

    The order is size, texture, colour, noun; medium size and plain texture are left out. A figure is
    described by its shirt and an instance that it holds or, without one, wears. Instances that look
    alike have the same description.
    """
    thing = facts.things[index]
    if thing.kind == "figure":
        pattern = thing.texture if thing.texture in {"striped", "dotted"} else ""
        person = f"{thing.name} in {article(f'{pattern} {thing.color}'.strip())} shirt"
        parts = [("holding", part) for part in thing.holds]
        parts += [("wearing", part) for part in thing.wears]
        seen = [
            f" {verb} {article(facts.things[part].name)}"
            for verb, part in parts
            if facts.is_clear(part)
        ]
        return person + "".join(seen[:1])
    words = [thing.size if thing.size != "medium" else ""]
    words += [thing.texture if thing.texture != "plain" else "", thing.color]
    words.append(f"{thing.name} {thing.symbol}".strip())
    return " ".join(word for word in words if word)
