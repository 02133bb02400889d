"""Referring expressions, with their instances derived from the facts of a scene."""

from collections.abc import Iterator

from deixis.data.scenes import relation_extents
from deixis.data.scenes.describe import (
    Extent,
    Facts,
    NounPhrase,
    appearance_phrases,
    bit_indices,
)
from deixis.data.scenes.seeds import Dice
from deixis.data.scenes.vocabulary import COLORS, SHAPES
from deixis.language import article
from deixis.structures import Expression

_SIDE_WORDS = {
    "left": ("to the left of", "left of", "on the left of"),
    "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "higher up than"),
    "below": ("below", "under"),
}
_OUTER_WORDS = {
    "left": ("leftmost {}", "{} farthest to the left", "{} furthest left", "far left {}"),
    "right": ("rightmost {}", "{} farthest to the right", "{} furthest right", "far right {}"),
    "top": ("topmost {}", "highest {}", "{} nearest the top"),
    "bottom": ("lowest {}", "bottommost {}", "{} nearest the bottom"),
}
_PAIR_WORDS = {
    "left": ("left {}", "left-hand {}"),
    "right": ("right {}", "right-hand {}"),
    "top": ("top {}", "upper {}"),
    "bottom": ("bottom {}", "lower {}"),
}
_REGION_WORDS = {
    "left": ("{} on the left", "{} on the left side", "{} to the left", "{} at the left"),
    "right": ("{} on the right", "{} on the right side", "{} to the right", "{} at the right"),
    "top": ("{} at the top", "{} in the upper half", "{} near the top"),
    "bottom": ("{} at the bottom", "{} in the lower half", "{} near the bottom"),
    "middle": ("{} in the middle", "{} in the center", "middle {}", "center {}"),
    "top left": ("top left {}", "upper left {}", "{} in the top left corner", "{} at the top left"),
    "top right": (
        *("top right {}", "upper right {}"),
        *("{} in the top right corner", "{} at the top right"),
    ),
    "bottom left": (
        *("bottom left {}", "lower left {}"),
        *("{} in the bottom left corner", "{} at the bottom left"),
    ),
    "bottom right": (
        *("bottom right {}", "lower right {}"),
        *("{} in the bottom right corner", "{} at the bottom right"),
    ),
}
_TERSE_REGION_WORDS = {
    "left": ("{} on left", "{} left", "left {}"),
    "right": ("{} on right", "{} right", "right {}"),
    "top": ("{} at top", "top {}", "{} up top"),
    "bottom": ("{} at bottom", "bottom {}"),
    "middle": ("{} in middle", "middle {}", "{} in center"),
    "top left": ("top left {}", "{} top left"),
    "top right": ("top right {}", "{} top right"),
    "bottom left": ("bottom left {}", "{} bottom left"),
    "bottom right": ("bottom right {}", "{} bottom right"),
}
_ORDINALS = ("first", "second", "third", "fourth")

TARGET_LIMIT = 8
"""Most instances of a scene with expressions; each has at most one of every family."""


def scene_expressions_of(facts: Facts, dice: Dice) -> tuple[Expression, ...]:
    """Return expressions for one, several and no instances of a scene, without duplicates."""
    targets = dice.shuffled(bit_indices(facts.clear))[:TARGET_LIMIT]
    found: list[Expression] = []
    for rank, target in enumerate(targets):
        families = [location_expression, appearance_expression, long_expression]
        if rank >= 3:
            families = [dice.pick(families)]
        for make in families:
            made = make(facts, target, dice)
            if made is not None:
                found.append(made)
    found += several_expressions(facts, dice)
    found += absent_expressions(facts, dice)
    unique: dict[str, Expression] = {}
    for expression in found:
        unique.setdefault(expression.text, expression)
    return tuple(unique.values())


def appearance_expression(facts: Facts, target: int, dice: Dice) -> Expression | None:
    """Return words about appearance that describe only the target; None if there are none."""
    phrase = _unique_phrase(facts, target, dice, shortest=0.4)
    if phrase is None:
        return None
    text = phrase.words if dice.chance(0.3) else f"the {phrase.words}"
    return Expression(text, (target,), "appearance")


def _unique_phrase(facts: Facts, target: int, dice: Dice, *, shortest: float) -> NounPhrase | None:
    phrases = [
        phrase for phrase in appearance_phrases(facts, target) if phrase.extent.means_only(target)
    ]
    if not phrases:
        return None
    least = phrases[0].cost
    brief = [phrase for phrase in phrases if phrase.cost <= least]
    fuller = [phrase for phrase in phrases if phrase.cost <= least + 2]
    return dice.pick(brief if dice.chance(shortest) else fuller)


def location_expression(facts: Facts, target: int, dice: Dice) -> Expression | None:
    """Return words about location that describe only the target; None if there are none."""
    bases = appearance_phrases(facts, target)
    bases = [phrase for phrase in bases if phrase.cost <= 2]
    ambiguous = [phrase for phrase in bases if phrase.extent.possible.bit_count() > 1]
    for _ in range(6):
        # a location is most useful if the appearance is ambiguous
        base = dice.pick(ambiguous if ambiguous and dice.chance(0.8) else bases)
        options = list(_located(facts, base, target))
        if options:
            pattern, terse = dice.pick(options)
            text = pattern.format(base.words)
            with_article = not terse and dice.chance(0.7)
            return Expression(f"the {text}" if with_article else text, (target,), "location")
    return None


def _located(facts: Facts, base: NounPhrase, target: int) -> Iterator[tuple[str, bool]]:
    """Yield patterns around the words of ``base`` that mean ``target``, and whether each is terse."""
    tailless = not base.tail
    for name in relation_extents.REGIONS:
        if name == "middle" and not _is_middle_of(facts, base, target):
            continue
        if (base.extent & relation_extents.region(facts, name)).means_only(target):
            for pattern in _REGION_WORDS[name]:
                yield pattern, False
            if tailless:
                for pattern in _TERSE_REGION_WORDS[name]:
                    yield pattern, True
    count = base.extent.certain.bit_count()
    if count < 2 or not base.extent.is_exact:
        return
    for direction in ("left", "right", "top", "bottom"):
        if relation_extents.outermost(facts, base.extent, direction) == target:
            for pattern in (_PAIR_WORDS if count == 2 else _OUTER_WORDS)[direction]:
                yield pattern, False
    for extreme, words in (
        ("largest", ("largest {}", "biggest {}")),
        ("smallest", ("smallest {}",)),
    ):
        if not base.modifiers and relation_extents.by_area(facts, base.extent, extreme) == target:
            for pattern in words:
                yield pattern, False
    if count >= 3:
        for direction in ("left", "right"):
            order = relation_extents.ordered(facts, base.extent, direction)
            if order and order.index(target) < len(_ORDINALS):
                ordinal = _ORDINALS[order.index(target)]
                yield f"{ordinal} {{}} from the {direction}", False
                if tailless:
                    yield f"{ordinal} {{}} from {direction}", True
        order = relation_extents.ordered(facts, base.extent, "left")
        if count == 3 and order and order[1] == target:
            yield "middle {}", False


def _is_middle_of(facts: Facts, base: NounPhrase, target: int) -> bool:
    """Return whether ``target`` is also in the middle of ``base``, so "middle" has one meaning."""
    if base.extent.possible.bit_count() < 3:
        return True
    order = relation_extents.ordered(facts, base.extent, "left")
    return len(order) % 2 == 1 and order[len(order) // 2] == target


def long_expression(facts: Facts, target: int, dice: Dice) -> Expression | None:
    """Return words about a relation that describe only the target; None if there are none."""
    bases = [phrase for phrase in appearance_phrases(facts, target) if phrase.cost <= 2]
    plain = [phrase for phrase in bases if not phrase.tail] or bases
    links = list(_links(facts, target))
    for anchor, words, extent in dice.shuffled(links)[:8]:
        named = _unique_phrase(facts, anchor, dice, shortest=0.8)
        if named is None:
            continue
        fitting = [base for base in plain if (base.extent & extent).means_only(target)]
        if fitting:
            base = dice.pick(fitting)
            return Expression(
                f"the {base.words} {dice.pick(words).format(named.words)}", (target,), "long"
            )
    return None


def _links(facts: Facts, target: int) -> Iterator[tuple[int, tuple[str, ...], Extent]]:
    """Yield relations of ``target``: the other instance, words, and the extent of the relation."""
    thing = facts.things[target]
    for part in thing.holds:
        words = ("holding the {}", "that is holding the {}", "who holds the {}")
        yield part, words, relation_extents.holding(facts, part)
    for part in thing.wears:
        words = ("wearing the {}", "that is wearing the {}", "who wears the {}")
        yield part, words, relation_extents.wearing(facts, part)
    for index, other in enumerate(facts.things):
        if target in other.holds:
            words = ("that the {} is holding", "held by the {}", "in the hand of the {}")
            yield index, words, relation_extents.held_by(facts, index)
        if target in other.wears:
            words = ("that the {} is wearing", "worn by the {}", "on the head of the {}")
            yield index, words, relation_extents.worn_by(facts, index)
    if thing.on is not None:
        words = ("on the {}", "that is on the {}", "standing on the {}")
        yield thing.on, words, relation_extents.resting_on(facts, thing.on)
    if thing.inside is not None:
        words = ("in the {}", "that is in the {}", "inside the {}")
        yield thing.inside, words, relation_extents.contained(facts, thing.inside)
    bit = 1 << target
    for index in bit_indices(facts.clear & ~bit):
        if relation_extents.near(facts, index).certain & bit:
            words = ("next to the {}", "that is next to the {}", "beside the {}")
            yield index, words, relation_extents.near(facts, index)
        for side in relation_extents.SIDES:
            extent = relation_extents.beside(facts, side, index)
            if extent.certain & bit:
                plain = _SIDE_WORDS[side]
                said = (*(f"{word} the {{}}" for word in plain), f"that is {plain[0]} the {{}}")
                yield index, said, extent


def several_expressions(facts: Facts, dice: Dice) -> list[Expression]:
    """Return up to two expressions that refer to several instances."""
    found = []
    for target in dice.shuffled(bit_indices(facts.clear))[:4]:
        if dice.chance(0.25):
            related = _several_related(facts, target, dice)
            if related is not None:
                found.append(related)
                continue
        for phrase in dice.shuffled(appearance_phrases(facts, target))[:6]:
            made = _several(facts, phrase, dice)
            if made is not None:
                found.append(made)
                break
        if len(found) == 2:
            break
    return found


def _several(facts: Facts, phrase: NounPhrase, dice: Dice) -> Expression | None:
    if " " in phrase.noun:
        # "letter As" is not English
        return None
    if dice.chance(0.2):
        name = dice.pick(("left", "right", "top", "bottom"))
        extent = phrase.extent & relation_extents.region(facts, name)
        text = f"the {_REGION_WORDS[name][0].format(phrase.many)}"
        family = "location"
    else:
        extent = phrase.extent
        count = extent.certain.bit_count()
        forms = ["the {many}", "all the {many}", "every {one}", "all {many}", "{many}"]
        forms += ["both {many}"] * 2 if count == 2 else []
        text = dice.pick(forms).format(many=phrase.many, one=phrase.words)
        family = "appearance"
    if not extent.is_exact or extent.certain.bit_count() < 2:
        return None
    return Expression(text, bit_indices(extent.certain), family)


def _several_related(facts: Facts, target: int, dice: Dice) -> Expression | None:
    bases = [phrase for phrase in appearance_phrases(facts, target) if phrase.cost <= 2]
    links = [link for link in _links(facts, target) if link[2].certain.bit_count() > 1]
    for anchor, words, extent in dice.shuffled(links)[:4]:
        named = _unique_phrase(facts, anchor, dice, shortest=0.8)
        base = dice.pick(bases)
        meant = base.extent & extent
        # the first wording of a link has no verb
        if named is None or " " in base.noun or not meant.is_exact:
            continue
        if meant.certain.bit_count() > 1:
            text = f"the {base.many} {words[0].format(named.words)}"
            return Expression(text, bit_indices(meant.certain), "long")
    return None


def absent_expressions(facts: Facts, dice: Dice) -> list[Expression]:
    """Return up to two expressions that refer to nothing in the scene.

    Most describe a present instance with one word changed.
    """
    found: list[Expression] = []
    clear = bit_indices(facts.clear)
    for _ in range(6):
        if len(found) == 2:
            break
        if len(clear) > 1 and dice.chance(0.2):
            unrelated = _unrelated(facts, dice)
            if unrelated is not None:
                found.append(unrelated)
                continue
        phrase = (
            _near_miss(facts, dice.pick(clear), dice)
            if clear and dice.chance(0.8)
            else _any_combination(facts, dice)
        )
        if phrase is not None and not phrase.extent.possible:
            text = phrase.words if dice.chance(0.3) else f"the {phrase.words}"
            family = "location" if phrase.tail in _REGION_TAILS else "appearance"
            found.append(Expression(text, (), family))
    return found


_REGION_TAILS = tuple(words[0].removeprefix("{}") for words in _REGION_WORDS.values())


def _unrelated(facts: Facts, dice: Dice) -> Expression | None:
    """Return two present instances in a relation that does not hold."""
    target, anchor = dice.shuffled(bit_indices(facts.clear))[:2]
    named = _unique_phrase(facts, anchor, dice, shortest=0.8)
    bases = [phrase for phrase in appearance_phrases(facts, target) if phrase.cost <= 1]
    side = dice.pick(relation_extents.SIDES)
    base = dice.pick(bases)
    extent = base.extent & relation_extents.beside(facts, side, anchor)
    # no instance is beside itself
    if named is None or extent.possible & ~(1 << anchor):
        return None
    return Expression(f"the {base.words} {_SIDE_WORDS[side][0]} the {named.words}", (), "long")


def _any_combination(facts: Facts, dice: Dice) -> NounPhrase:
    color, noun = dice.pick(COLORS), dice.pick(SHAPES)
    extent = facts.having("color", color) & facts.having("name", noun)
    return NounPhrase(f"{color} ", noun, "", "", extent, 1)


def _near_miss(facts: Facts, target: int, dice: Dice) -> NounPhrase | None:
    thing = facts.things[target]
    named = facts.having("name", thing.name)
    change = dice.pick(("color", "name", "texture", "where"))
    if thing.kind == "figure":
        color = dice.pick(COLORS)
        extent = named & facts.having("color", color)
        return NounPhrase("", thing.name, f" in {article(color)} shirt", "", extent, 1)
    if change == "color":
        color = dice.pick(COLORS)
        return NounPhrase(f"{color} ", thing.name, "", "", named & facts.having("color", color), 1)
    if change == "name" and thing.kind == "shape":
        noun = dice.pick(SHAPES)
        extent = facts.having("name", noun) & facts.having("color", thing.color)
        return NounPhrase(f"{thing.color} ", noun, "", "", extent, 1)
    if change == "texture" and thing.kind == "shape":
        texture = dice.pick(("striped", "dotted"))
        extent = named & facts.having("texture", texture) & facts.having("color", thing.color)
        return NounPhrase(f"{texture} {thing.color} ", thing.name, "", "", extent, 2)
    if change == "where":
        name = dice.pick(("left", "right", "top", "bottom"))
        extent = named & facts.having("color", thing.color) & relation_extents.region(facts, name)
        where = _REGION_WORDS[name][0].removeprefix("{}")
        return NounPhrase(f"{thing.color} ", thing.name, where, "", extent, 2)
    return None
