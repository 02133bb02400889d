"""Questions about a scene and its instances, answered from its annotations."""

from deixis.data.scenes import relation_extents
from deixis.data.scenes.describe import Facts, bit_indices, full_description, nouns, short_phrase
from deixis.data.scenes.seeds import Dice
from deixis.data.scenes.vocabulary import COLORS, SHAPES
from deixis.data.wording import REGION_SLOT
from deixis.language import article, count_word, plural, sentence
from deixis.structures import QuestionAnswer

_COLOR_KINDS = ("shape", "letter", "digit", "container", "surface")


def descriptions(facts: Facts) -> list[QuestionAnswer]:
    """Return a description of each clear instance in one fixed form (kind ``description``)."""
    return [
        QuestionAnswer(
            f"What is {REGION_SLOT}?",
            sentence(article(full_description(facts, index))),
            instance=index,
            kind="description",
        )
        for index in bit_indices(facts.clear)
    ]


def region_questions(facts: Facts, dice: Dice, *, limit: int = 8) -> list[QuestionAnswer]:
    """Return questions about single instances: class, colour, symbol and relations."""
    found = [
        QuestionAnswer(question, sentence(answer), instance=index, kind="region")
        for index in bit_indices(facts.clear)
        for question, answer in _about_thing(facts, index)
    ]
    return dice.shuffled(found)[:limit]


def _about_thing(facts: Facts, index: int) -> list[tuple[str, str]]:
    thing = facts.things[index]
    asked = []
    if thing.kind == "figure":
        asked.append((f"What colour is the shirt of {REGION_SLOT}?", thing.color))
        held = [facts.things[part] for part in thing.holds if facts.is_clear(part)]
        if held:
            item = article(f"{held[0].color} {held[0].name}")
            asked.append((f"What is {REGION_SLOT} holding?", item))
        elif not thing.holds:
            asked.append((f"What is {REGION_SLOT} holding?", "nothing"))
        worn = [facts.things[part] for part in thing.wears if facts.is_clear(part)]
        if worn:
            item = article(f"{worn[0].color} {worn[0].name}")
            asked.append((f"What is {REGION_SLOT} wearing?", item))
    elif thing.color:
        asked.append((f"What colour is {REGION_SLOT}?", thing.color))
    if thing.kind == "letter":
        asked.append((f"Which letter is {REGION_SLOT}?", f"the letter {thing.symbol}"))
    elif thing.kind == "digit":
        asked.append((f"Which digit is {REGION_SLOT}?", f"the digit {thing.symbol}"))
    elif thing.kind == "shape":
        asked.append((f"What shape is {REGION_SLOT}?", article(thing.name)))
        asked.append((f"What pattern does {REGION_SLOT} have?", thing.texture or "plain"))
    if thing.kind != "surface":
        asked.append((f"How large is {REGION_SLOT}?", thing.size))
    if thing.inside is not None and facts.is_clear(thing.inside):
        asked.append((f"What is {REGION_SLOT} in?", article(short_phrase(facts, thing.inside)[0])))
    if thing.on is not None and facts.is_clear(thing.on):
        asked.append((f"What is {REGION_SLOT} on?", article(short_phrase(facts, thing.on)[0])))
    close = relation_extents.near(facts, index)
    if close.is_exact and close.certain.bit_count() == 1:
        neighbour = close.certain.bit_length() - 1
        asked.append(
            (f"What is {REGION_SLOT} next to?", article(short_phrase(facts, neighbour)[0]))
        )
    return asked


def image_questions(facts: Facts, dice: Dice, *, limit: int = 8) -> list[QuestionAnswer]:
    """Return questions about the picture: presence (as often yes as no), number, colour, symbols."""
    found = [
        *_presence(facts, dice),
        *_numbers(facts, dice),
        *_looks(facts, dice),
        *_places(facts, dice),
        *_holdings(facts),
    ]
    return [
        QuestionAnswer(question, sentence(answer), kind=kind)
        for question, answer, kind in dice.shuffled(found)[:limit]
    ]


def _presence(facts: Facts, dice: Dice) -> list[tuple[str, str, str]]:
    asked = []
    clear = bit_indices(facts.clear)
    for index in dice.shuffled(clear)[:2]:
        thing = facts.things[index]
        colored = thing.kind != "figure" and dice.chance(0.7)
        words = f"{thing.color} {thing.name}" if colored else thing.name
        asked.append((f"Is there {article(words)}?", "yes", "presence"))
    for _ in range(2):
        near = facts.things[dice.pick(clear)] if clear and dice.chance(0.7) else None
        color = near.color if near is not None and dice.chance(0.5) else dice.pick(COLORS)
        noun = dice.pick(SHAPES)
        if near is not None and near.kind in _COLOR_KINDS and color != near.color:
            noun = near.name
        extent = facts.having("color", color) & facts.having("name", noun)
        if not extent.possible:
            asked.append((f"Is there {article(f'{color} {noun}')}?", "no", "presence"))
    return asked


def _numbers(facts: Facts, dice: Dice) -> list[tuple[str, str, str]]:
    asked = []
    for index in dice.shuffled(bit_indices(facts.clear))[:2]:
        thing = facts.things[index]
        extent = facts.having("name", thing.name)
        noun = thing.name
        if thing.kind != "figure" and dice.chance(0.5):
            extent &= facts.having("color", thing.color)
            noun = f"{thing.color} {noun}"
        if extent.is_exact:
            many = count_word(extent.certain.bit_count())
            asked.append((f"How many {plural(noun)} are there?", many, "number"))
    return asked


def _looks(facts: Facts, dice: Dice) -> list[tuple[str, str, str]]:
    asked = []
    for index in dice.shuffled(bit_indices(facts.clear))[:3]:
        thing = facts.things[index]
        if not facts.having("name", thing.name).means_only(index):
            continue
        if thing.kind in {"letter", "digit"}:
            question = f"Which {thing.kind} is in the picture?"
            asked.append((question, f"the {thing.kind} {thing.symbol}", "symbol"))
        if thing.kind in _COLOR_KINDS:
            asked.append((f"What colour is the {thing.name}?", thing.color, "colour"))
    return asked


def _places(facts: Facts, dice: Dice) -> list[tuple[str, str, str]]:
    """Return questions whether one instance is beside another; both have unique short names."""
    asked = []
    named = [
        (index, noun)
        for index in bit_indices(facts.clear)
        for noun, extent, cost in nouns(facts, index)
        if cost == 0 and extent.means_only(index)
    ]
    for _ in range(2 if len(named) > 1 else 0):
        (subject, first), (other, second) = dice.shuffled(named)[:2]
        side = dice.pick(relation_extents.SIDES)
        extent = relation_extents.beside(facts, side, other)
        bit = 1 << subject
        words = {"left": "to the left of", "right": "to the right of"}.get(side, side)
        if extent.certain & bit or not extent.possible & bit:
            answer = "yes" if extent.certain & bit else "no"
            asked.append((f"Is the {first} {words} the {second}?", answer, "relation"))
    return asked


def _holdings(facts: Facts) -> list[tuple[str, str, str]]:
    people = bit_indices(facts.having("kind", "figure").possible)
    if len(people) != 1 or not facts.is_clear(people[0]):
        return []
    person = facts.things[people[0]]
    asked = []
    for verb, parts in (("holding", person.holds), ("wearing", person.wears)):
        if len(parts) == 1 and facts.is_clear(parts[0]):
            item = article(short_phrase(facts, parts[0])[0])
            asked.append((f"What is the person {verb}?", item, "relation"))
    return asked
