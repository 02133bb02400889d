"""What is true of the things of a scene, and noun phrases that are true of exactly some of them.

A set of things is an int with one bit for each thing. A predicate has two such sets: things that
satisfy it beyond doubt, and things that a person could take to satisfy it. Words are used only
where both are the same, so nothing on the borderline ever decides what an expression means.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from deixis.data.scenes.scene import Corners, Scene, Thing
from deixis.data.scenes.vocabulary import SHAPES
from deixis.errors import AnnotationError
from deixis.language import article, plural

CLEAR_VISIBILITY = 0.3
"""Things of which less is seen are no targets, and words that might mean them are not used."""

WHOLE_VISIBILITY = 0.6
"""Of a thing of which less is seen, nobody can say how large it is."""

CLEAR_PIXELS = 24
"""Least visible box area, in pixels, of a thing that words may mean."""


class Extent(NamedTuple):
    """Things that satisfy a predicate for certain, and things that possibly do, as bit sets."""

    certain: int
    possible: int

    def __and__(self, other: "Extent") -> "Extent":
        return Extent(self.certain & other.certain, self.possible & other.possible)

    @property
    def is_exact(self) -> bool:
        """Whether no thing is in doubt."""
        return self.certain == self.possible

    def means_only(self, index: int) -> bool:
        """Whether the predicate is true of thing ``index`` and certainly of no other."""
        return self.certain == self.possible == 1 << index


def bit_indices(bits: int) -> tuple[int, ...]:
    """Positions of the bits that are set, ascending."""
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return tuple(found)


class NounPhrase(NamedTuple):
    """Words without article (``small red circle``) and the things that they are true of.

    ``modifiers`` ends and ``tail`` begins with a space; ``tails`` is the tail in the plural.
    ``cost`` says how much the words say, and how unusual they are: lower is what people say first.
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
    """The box of a thing's visible part, ``xyxy`` in pixels.

    Raises:
        AnnotationError: The thing is wholly hidden; a scene holds no such thing.
    """
    if thing.box is None:
        raise AnnotationError(f"{thing.color} {thing.name} of a scene is wholly hidden")
    return thing.box


class Facts:
    """Lookup of who is what in one scene.

    Location is that of the visible box, as fractions of the width and height.
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
        """Things with an attribute."""
        bits = self.attributes.get((attribute, value), 0)
        if attribute == "size":
            return Extent(bits & self.clear & self.whole, bits | self.all_bits & ~self.whole)
        return Extent(bits & self.clear, bits)

    def is_clear(self, index: int) -> bool:
        """Whether enough of a thing is seen to talk about it."""
        return bool(self.clear >> index & 1)

    def area(self, index: int) -> float:
        """Area of the visible box, as a fraction of the picture."""
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
    """Figures that hold a thing called ``name``."""
    return _having_part(facts, name, lambda thing: thing.holds)


def wearers(facts: Facts, name: str) -> Extent:
    """Figures that wear a thing called ``name``."""
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
    """Whether two boxes share any area."""
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def nouns(facts: Facts, index: int) -> list[tuple[str, Extent, int]]:
    """Nouns for a thing with their cost, the most usual first."""
    thing = facts.things[index]
    named = facts.having("name", thing.name)
    if thing.symbol:
        exact = named & facts.having("symbol", thing.symbol)
        return [(f"{thing.name} {thing.symbol}", exact, 0), (thing.name, named, 1)]
    if thing.name in SHAPES:
        return [(thing.name, named, 0), ("shape", facts.having("family", "shape"), 2)]
    return [(thing.name, named, 0)]


def appearance_phrases(facts: Facts, index: int) -> list[NounPhrase]:
    """Every noun phrase without location words that is true of thing ``index``.

    Cheap ones come first. Whether a phrase means this thing alone is for the caller to ask.
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
    # Plainness is worth a word only beside a pattern.
    patterned = any(key[0] == "texture" and key[1] != "plain" for key in facts.attributes)
    return [("plain ", textured, 2)] if patterned else []


def _figure_phrases(facts: Facts, index: int) -> list[NounPhrase]:
    thing = facts.things[index]
    named = facts.having("name", thing.name)
    tails: list[tuple[str, str, Extent, int]] = [("", "", named, 0)]
    dressed: list[tuple[str, str, Extent, int]] = []
    colored = named & facts.having("color", thing.color)
    color = thing.color
    # A hat or crown of that colour would do too: such figures leave the words in doubt.
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
    """Colour and class of a thing, in the singular and the plural."""
    thing = facts.things[index]
    if thing.kind == "figure":
        return (
            f"{thing.name} in {article(thing.color)} shirt",
            f"{plural(thing.name)} in {thing.color} shirts",
        )
    one, many = f"{thing.color} {thing.name}", f"{thing.color} {plural(thing.name)}"
    return f"{one} {thing.symbol}".strip(), f"{many} {thing.symbol}".strip()


def full_description(facts: Facts, index: int) -> str:
    """What a thing looks like, with every attribute that is worth a word, in a fixed order.

    The order is size, texture, colour, noun; a medium size and a plain texture go unsaid. Of
    figures it says the shirt and one thing held or, where none is, worn. Two things that look
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
