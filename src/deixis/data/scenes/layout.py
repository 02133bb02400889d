"""Plans scenes: drafts of instances, placed so that they are distinguishable."""

from dataclasses import dataclass
from math import cos, inf, pi, sin

from deixis.data.scenes.figures import HEAD, HEAD_RADIUS, hand, roll_pose
from deixis.data.scenes.grounds import Ground
from deixis.data.scenes.scene import ThingKind
from deixis.data.scenes.seeds import Dice
from deixis.data.scenes.shape_outlines import SHAPE_TABLE
from deixis.data.scenes.sprites import Draft, Rgb
from deixis.data.scenes.vocabulary import (
    COLOR_VALUES,
    COLORS,
    CONTAINERS,
    DIGITS,
    FIGURE,
    HOLDABLES,
    LETTERS,
    SHAPES,
    SIZE_RANGES,
    SIZES,
    SURFACES,
    TEXTURES,
    TINY_RANGE,
    TONE_VALUES,
    WEARABLES,
)

Extent = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class LevelRules:
    """The rules by which a level fills its scenes.

    ``overlap`` is the largest covered share of the smaller of two boxes during placement;
    ``visibility`` is the least visible share with which an instance stays in the scene.
    """

    counts: tuple[int, int]
    kinds: dict[ThingKind, float]
    sizes: dict[str, float]
    textures: dict[str, float]
    overlap: float
    crowding: float
    visibility: float
    border: float
    look_alike: float
    tiny: float


LEVEL_RULES: dict[str, LevelRules] = {
    "plain": LevelRules(
        counts=(1, 6),
        kinds={"shape": 1.0, "letter": 0.05, "digit": 0.05, "figure": 0.05},
        sizes={"small": 0.25, "medium": 0.45, "large": 0.30},
        textures={"plain": 0.8, "striped": 0.1, "dotted": 0.1},
        overlap=0.0,
        crowding=0.0,
        visibility=0.87,
        border=0.0,
        look_alike=0.15,
        tiny=0.0,
    ),
    "standard": LevelRules(
        counts=(1, 14),
        kinds={
            "shape": 1.0,
            "letter": 0.14,
            "digit": 0.14,
            "figure": 0.26,
            "container": 0.15,
            "surface": 0.15,
        },
        sizes={"small": 0.35, "medium": 0.42, "large": 0.23},
        textures={"plain": 0.56, "striped": 0.22, "dotted": 0.22},
        overlap=0.45,
        crowding=0.35,
        visibility=0.25,
        border=0.05,
        look_alike=0.2,
        tiny=0.0,
    ),
    "hard": LevelRules(
        counts=(4, 14),
        kinds={
            "shape": 1.0,
            "letter": 0.16,
            "digit": 0.16,
            "figure": 0.28,
            "container": 0.14,
            "surface": 0.14,
        },
        sizes={"small": 0.45, "medium": 0.37, "large": 0.18},
        textures={"plain": 0.5, "striped": 0.25, "dotted": 0.25},
        overlap=0.75,
        crowding=0.8,
        visibility=0.12,
        border=0.12,
        look_alike=0.6,
        tiny=0.5,
    ),
}


@dataclass(slots=True)
class Layout:
    """The drafts placed on a canvas so far."""

    dice: Dice
    rules: LevelRules
    height: int
    width: int
    ground: Ground
    drafts: list[Draft]
    taken: list[Extent]

    @property
    def side(self) -> int:
        """The canvas's longer side."""
        return max(self.height, self.width)


def plan_scene(dice: Dice, height: int, width: int, ground: Ground, *, level: str) -> list[Draft]:
    """Return the drafts of a scene's instances, at least one."""
    rules = LEVEL_RULES[level]
    layout = Layout(dice, rules, height, width, ground, [], [])
    low, high = rules.counts
    # the smaller of two draws, so that crowded scenes are rarer
    wanted = min(dice.whole(low, high), dice.whole(low, high) + 2)
    model: Draft | None = None
    attempts = 0
    # a tall figure may not fit a low canvas, so even the first instance may need several attempts
    while len(layout.drafts) < wanted and (attempts < wanted + 4 or not layout.drafts):
        attempts += 1
        left = wanted - len(layout.drafts)
        kind = dice.weighted(rules.kinds)
        if left < 2 and kind in {"container", "surface"}:
            kind = "shape"
        if model is not None and dice.chance(rules.look_alike):
            draft = look_alike(dice, model, layout.side)
        else:
            draft = roll_draft(dice, rules, kind, layout.side)
        if not _place(layout, draft, sparse=not layout.drafts):
            continue
        if draft.kind in {"shape", "letter", "digit"} and model is None:
            model = draft
        _furnish(layout, draft, left - 1)
    return layout.drafts


def roll_draft(
    dice: Dice,
    rules: LevelRules,
    kind: ThingKind,
    side: int,
    *,
    size: str | None = None,
    name: str = "",
) -> Draft:
    """Draw an instance of a kind with random attributes, without a position."""
    size = size or dice.weighted(rules.sizes)
    texture = dice.weighted(rules.textures)
    low, high = SIZE_RANGES[kind][size]
    if kind == "shape" and size == "small" and dice.chance(rules.tiny):
        low, high = TINY_RANGE
        texture = "plain"
    if kind in {"letter", "digit", "surface"}:
        texture = "plain"
    extent = dice.uniform(low, high) * side
    color = dice.pick(COLORS)
    symbol = ""
    if kind == "letter":
        name, symbol = "letter", dice.pick(LETTERS)
    elif kind == "digit":
        name, symbol = "digit", dice.pick(DIGITS)
    elif kind == "figure":
        name = FIGURE
    elif not name:
        name = dice.pick(
            {"shape": SHAPES, "container": CONTAINERS, "surface": SURFACES}.get(kind, SHAPES)
        )
    rgb, tone = _jittered(dice, color)
    draft = Draft(kind, name, color, size, texture, extent, rgb, tone, symbol)
    draft.angle = _turn(dice, draft)
    if kind == "figure":
        draft.pose = roll_pose(dice)
    return draft


def look_alike(dice: Dice, model: Draft, side: int) -> Draft:
    """Draw an instance that differs from the model in at most one attribute."""
    changed = dice.pick(("nothing", "color", "size", "texture", "name"))
    color, size, texture, name = model.color, model.size, model.texture, model.name
    symbol = model.symbol
    if changed == "color":
        color = dice.pick([other for other in COLORS if other != color])
    elif changed == "size":
        size = dice.pick([other for other in SIZES if other != size])
    elif changed == "texture" and model.kind == "shape":
        texture = dice.pick([other for other in TEXTURES if other != texture])
    elif changed == "name" and model.kind == "shape":
        name = dice.pick([other for other in SHAPES if other != name])
    elif changed == "name":
        symbol = dice.pick(LETTERS if model.kind == "letter" else DIGITS)
    low, high = SIZE_RANGES[model.kind][size]
    rgb, tone = _jittered(dice, color)
    extent = dice.uniform(low, high) * side
    draft = Draft(model.kind, name, color, size, texture, extent, rgb, tone, symbol)
    draft.angle = _turn(dice, draft)
    return draft


def _jittered(dice: Dice, color: str) -> tuple[Rgb, Rgb]:
    brightness = dice.uniform(0.94, 1.05)
    shift = (dice.uniform(-6, 6), dice.uniform(-6, 6), dice.uniform(-6, 6))
    base, other = COLOR_VALUES[color], TONE_VALUES[color]
    return (
        (
            base[0] * brightness + shift[0],
            base[1] * brightness + shift[1],
            base[2] * brightness + shift[2],
        ),
        (
            other[0] * brightness + shift[0],
            other[1] * brightness + shift[1],
            other[2] * brightness + shift[2],
        ),
    )


def _turn(dice: Dice, draft: Draft) -> float:
    if draft.kind == "shape":
        shape = SHAPE_TABLE[draft.name]
        turned = dice.pick(shape.quarter_turns) * pi / 2
        return turned + dice.uniform(-shape.tilt, shape.tilt)
    if draft.kind in {"letter", "digit"}:
        return dice.uniform(-0.14, 0.14)
    return 0.0


def reach(draft: Draft) -> tuple[float, float]:
    """Return half-width and half-height of the axis-aligned box around a draft, in pixels."""
    half_width, half_height = draft.half_size
    if draft.angle == 0.0:
        return half_width, half_height
    cosine, sine = abs(cos(draft.angle)), abs(sin(draft.angle))
    if draft.kind == "shape" and draft.name in {"circle", "ring", "star", "hexagon"}:
        return half_width, half_height
    return half_width * cosine + half_height * sine, half_width * sine + half_height * cosine


def _place(layout: Layout, draft: Draft, *, sparse: bool) -> bool:
    """Place a top-level instance; return False if there is no room."""
    dice, rules = layout.dice, layout.rules
    half_width, half_height = reach(draft)
    over = 0.0
    if draft.kind == "figure":
        over = draft.extent * 0.02
    if dice.chance(rules.border) and draft.extent > 0.1 * layout.side:
        over = -min(half_width, half_height) * dice.uniform(0.2, 0.6)
    low_x, high_x = half_width + over + 1, layout.width - half_width - over - 1
    low_y, high_y = half_height + over + 1, layout.height - half_height - over - 1
    if low_x >= high_x or low_y >= high_y:
        return False
    limit = rules.overlap if dice.chance(rules.crowding) else 0.02
    if draft.kind in {"figure", "container", "surface"}:
        # these stand on the ground, not on the wall
        low_y = max(
            low_y, min(high_y - 1, layout.ground.horizon + layout.height * 0.08 - half_height * 0.4)
        )
        limit = min(limit, 0.3)
    best = (inf, 0.0, 0.0)
    for _ in range(1 if sparse else 8):
        x, y = dice.uniform(low_x, high_x), dice.uniform(low_y, high_y)
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        covered = _most_covered(box, layout.taken)
        if covered < best[0]:
            best = (covered, x, y)
        if covered <= limit:
            break
    if best[0] > max(limit, rules.overlap * 0.6):
        return False
    draft.x, draft.y = best[1], best[2]
    layout.taken.append(
        (best[1] - half_width, best[2] - half_height, best[1] + half_width, best[2] + half_height)
    )
    draft.nearness = dice.uniform(0.93, 0.97)
    draft.depth = standing_depth(draft, layout.ground)
    draft.shadow = True
    layout.drafts.append(draft)
    return True


def _most_covered(box: Extent, taken: list[Extent]) -> float:
    """Return the largest share of the smaller of ``box`` and another box that both cover."""
    worst = 0.0
    left, top, right, bottom = box
    area = (right - left) * (bottom - top)
    for other in taken:
        width = min(right, other[2]) - max(left, other[0])
        if width <= 0:
            continue
        height = min(bottom, other[3]) - max(top, other[1])
        if height <= 0:
            continue
        smaller = min(area, (other[2] - other[0]) * (other[3] - other[1]))
        worst = max(worst, width * height / smaller)
    return worst


def standing_depth(draft: Draft, ground: Ground) -> float:
    """Return a depth slightly smaller than that of the ground at the instance's lower edge."""
    row = min(ground.distances.size - 1, max(0, int(draft.y + reach(draft)[1])))
    return float(ground.distances[row]) * draft.nearness


def _furnish(layout: Layout, draft: Draft, room: int) -> None:
    """Add at most ``room`` instances to a placed figure, container or surface."""
    if room < 1:
        return
    if draft.kind == "figure":
        _equip(layout, draft, room)
    elif draft.kind in {"container", "surface"}:
        _load(layout, draft, room)


def _equip(layout: Layout, figure: Draft, room: int) -> None:
    dice = layout.dice
    owner = len(layout.drafts) - 1
    if dice.chance(0.55):
        side = dice.whole(0, 1)
        figure.pose = roll_pose(dice, raised=side)
        grip_x, grip_y = hand(figure, figure.pose, side)
        name = dice.pick((*HOLDABLES, *HOLDABLES, *SHAPES))
        held = roll_draft(
            dice, layout.rules, "shape", layout.side, size=_fitting(dice, figure), name=name
        )
        held.angle = 0.0 if name not in HOLDABLES else dice.uniform(-0.08, 0.08)
        half_width, half_height = held.half_size
        if name in HOLDABLES:
            across = -0.57 * held.extent / 2 if name == "flag" else 0.0
            up = half_height * (0.94 if name == "balloon" else 0.72)
            held.x, held.y = grip_x - across, grip_y - up
        else:
            held.x, held.y = grip_x, grip_y - half_height * 0.9
        inside = half_width < held.x < layout.width - half_width
        if inside and half_height < held.y < layout.height - half_height:
            held.depth = figure.depth * 0.985
            held.holder = owner
            layout.drafts.append(held)
            layout.taken.append(
                (
                    held.x - half_width,
                    held.y - half_height,
                    held.x + half_width,
                    held.y + half_height,
                )
            )
            room -= 1
    if room > 0 and figure.size != "small" and dice.chance(0.45):
        _wear(layout, figure, owner)


def _fitting(dice: Dice, figure: Draft) -> str:
    if figure.size == "small":
        return "small"
    return dice.pick(("small", "medium")) if figure.size == "medium" else "medium"


def _wear(layout: Layout, figure: Draft, owner: int) -> None:
    """Put a hat or crown on a figure's head, with the width of the head within its size word."""
    dice = layout.dice
    size = "small" if figure.size == "medium" else "medium"
    name = dice.pick(WEARABLES)
    worn = roll_draft(dice, layout.rules, "shape", layout.side, size=size, name=name)
    low, high = SIZE_RANGES["shape"][size]
    worn.extent = min(high, max(low, figure.extent / layout.side * 0.215)) * layout.side
    worn.angle = 0.0
    head_top = figure.y + (HEAD[1] - HEAD_RADIUS) * figure.extent / 2
    half_height = worn.half_size[1]
    worn.x = figure.x
    worn.y = head_top + figure.extent * 0.028 - half_height * 0.62
    if worn.y - half_height < 1:
        return
    worn.depth = figure.depth * 0.988
    worn.wearer = owner
    layout.drafts.append(worn)


# where instances stand on a surface, as a range of fractions of its height
_STANDING = {"table": (-0.42, -0.20), "shelf": (-0.19, -0.13), "mat": (-0.16, 0.16)}
_LOADS: dict[ThingKind, float] = {"shape": 1.0, "letter": 0.1, "digit": 0.1}
# the upper edge of a container's front
_FRONT_TOP = {"box": -0.12, "bowl": -0.06, "basket": 0.14}


def _load(layout: Layout, holder: Draft, room: int) -> None:
    """Put one to three instances into a container or onto a surface, side by side."""
    dice = layout.dice
    owner = len(layout.drafts) - 1
    count = min(room, dice.whole(1, 3))
    half = holder.extent / 2
    slots = dice.shuffled(range(3)) if count > 1 else [1]
    for order, slot in enumerate(slots[:count]):
        # a letter that is half hidden by a box is not legible
        kind = "shape" if holder.kind == "container" else dice.weighted(_LOADS)
        size = "small"
        if holder.size == "large" and (count == 1 or dice.chance(0.3)):
            size = "medium"
        item = roll_draft(dice, layout.rules, kind, layout.side, size=size)
        # upright, so that its lowest point is known and touches the surface
        item.angle = round(item.angle / (pi / 2)) * pi / 2
        half_width, half_height = reach(item)
        if half_width > half * (0.6 if count == 1 else 0.34):
            continue
        item.x = holder.x + half * ((slot - 1) * 0.52 + dice.uniform(-0.07, 0.07))
        if holder.kind == "container":
            edge = holder.y + half * _FRONT_TOP[holder.name]
            item.y = edge + half_height * (2 * dice.uniform(0.18, 0.36) - 1)
            item.depth = holder.depth * (1.002 + 0.002 * order)
            item.inside = owner
        else:
            low, high = _STANDING[holder.name]
            item.y = holder.y + half * dice.uniform(low, high) - half_height
            item.depth = holder.depth * (0.992 - 0.003 * order)
            item.on = owner
        if item.y - half_height < 1:
            continue
        layout.drafts.append(item)
        layout.taken.append(
            (item.x - half_width, item.y - half_height, item.x + half_width, item.y + half_height)
        )
