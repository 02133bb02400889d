"""Short clips of drawn scenes with moving instances and exact annotations of every frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from jaxtyping import Int
from numpy import ndarray

from deixis.data.scenes.drawing import Picture, check_long_side, render, roll_size
from deixis.data.scenes.grounds import Ground, roll_ground
from deixis.data.scenes.layout import LEVEL_RULES, plan_scene, reach, standing_depth
from deixis.data.scenes.scene import Scene
from deixis.data.scenes.scene_facts import contact_lengths, covers
from deixis.data.scenes.seeds import Dice, scene_dice
from deixis.data.scenes.sprites import Draft
from deixis.data.scenes.vocabulary import SIZE_RANGES
from deixis.errors import GeometryError
from deixis.geometry import ImageSize

Verb = Literal[
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "grows",
    "shrinks",
    "appears",
    "disappears",
    "passes in front of",
]

MIN_FRAMES = 4
_PURPOSE = 2
"""Purpose number of the random stream, which differs from those of scenes and their words."""

_TRAVEL = (0.22, 0.55)
"""Range of a mover's distance, as a fraction of the canvas along the motion."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a track between two frames, both included.

    ``object`` is the other track of ``passes in front of``. An instance that appears is first visible
    at ``from_frame``; an instance that disappears is first absent at ``to_frame``.
    """

    subject: int
    verb: Verb
    from_frame: int
    to_frame: int
    object: int | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """The frames, tracks and events of a clip.

    ``tracks[t][f]`` is the index of track ``t`` among ``things`` of frame ``f``, None if it is not
    visible. Events are ordered by their first frame.
    """

    frames: tuple[Scene, ...]
    tracks: tuple[tuple[int | None, ...], ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class _Motion:
    """A planned change of one draft, eased between two frames."""

    owner: int
    verb: Verb
    first: int
    last: int
    across: float = 0.0
    down: float = 0.0
    growth: float = 1.0


def draw_clip(
    seed: int,
    index: int,
    *,
    level: str = "standard",
    split: str = "train",
    frames: int = 8,
    long_side: int = 224,
) -> Clip:
    """Draw clip ``index`` of a seed; the same arguments give the same bytes anywhere.

    Raises:
        GeometryError: A number is out of range, or the level or split is unknown.
    """
    check_long_side(long_side)
    if frames < MIN_FRAMES:
        raise GeometryError(f"a clip of {frames} frames: expected at least {MIN_FRAMES}")
    dice = scene_dice(seed, index, level=level, split=split, purpose=_PURPOSE)
    size = roll_size(dice, long_side)
    ground = roll_ground(dice, size.height, size.width, level=level)
    drafts = plan_scene(dice, size.height, size.width, ground, level=level)
    motions = _plan_motions(dice, drafts, size, frames)
    pictures = []
    for frame in range(frames):
        moved, alive = _at_frame(drafts, motions, ground, frame)
        empty = Ground(ground.paint.copy(), ground.distances, ground.horizon)
        picture = render(moved, empty, size, visibility=LEVEL_RULES[level].visibility)
        pictures.append((picture, alive))
    scenes = tuple(
        Scene(
            seed, index, level, split, size,
            picture.image, picture.labels, picture.depth, picture.things,
        )
        for picture, _ in pictures
    )  # fmt: skip
    owners, tracks = _tracks(pictures)
    events = _planned_events(motions, owners, tracks) + _passes(motions, owners, tracks, scenes)
    return Clip(scenes, tracks, tuple(sorted(events, key=_event_order)))


def _event_order(event: Event) -> tuple[int, int, str]:
    return event.from_frame, event.subject, event.verb


def _plan_motions(
    dice: Dice, drafts: Sequence[Draft], size: ImageSize, frames: int
) -> list[_Motion]:
    """Plan one change for each of one to three drafts that carry nothing and are not carried."""
    carriers = {link for draft in drafts for link in _links(draft)}
    free = [
        owner
        for owner, draft in enumerate(drafts)
        if owner not in carriers
        and not _links(draft)
        and draft.kind not in {"container", "surface"}
    ]
    motions = []
    # at least one instance never changes, so that no frame is empty
    most = min(3, len(free), max(1, len(drafts) - 1))
    for owner in dice.shuffled(free)[: dice.whole(1, 3)][:most]:
        first = dice.whole(0, frames // 3)
        last = dice.whole(frames - 1 - frames // 3, frames - 1)
        motion = None
        if dice.chance(0.5):
            motion = _pass_something(dice, drafts, owner, size, (first, last))
        if motion is None:
            motion = _roll_motion(dice, drafts[owner], owner, size, (first, last))
        if motion is not None and (len(drafts) > 1 or motion.verb not in {"appears", "disappears"}):
            motions.append(motion)
    return motions


def _links(draft: Draft) -> list[int]:
    links = (draft.holder, draft.wearer, draft.inside, draft.on)
    return [link for link in links if link is not None]


def _pass_something(
    dice: Dice, drafts: Sequence[Draft], owner: int, size: ImageSize, span: tuple[int, int]
) -> _Motion | None:
    """Return a sideways motion that passes in front of a farther instance and ends clear of it."""
    draft = drafts[owner]
    half_width, half_height = reach(draft)
    for other in dice.shuffled(drafts):
        other_width, other_height = reach(other)
        shared = min(draft.y + half_height, other.y + other_height) - max(
            draft.y - half_height, other.y - other_height
        )
        clear = half_width + other_width + 0.02 * max(size)
        distance = other.x - draft.x
        if other.depth <= draft.depth * 1.01 or abs(distance) < clear:
            continue
        if shared < 0.3 * min(2 * half_height, 2 * other_height):
            continue
        way = distance + (clear if distance > 0 else -clear)
        if half_width < draft.x + way < size.width - half_width:
            verb: Verb = "moves right" if way > 0 else "moves left"
            return _Motion(owner, verb, *span, across=way)
    return None


def _roll_motion(
    dice: Dice, draft: Draft, owner: int, size: ImageSize, span: tuple[int, int]
) -> _Motion | None:
    first, last = span
    kind = dice.weighted({"move": 5.0, "resize": 1.0, "appears": 1.0, "disappears": 1.0})
    if kind in {"appears", "disappears"}:
        frame = dice.whole(1, last)
        verb: Verb = "appears" if kind == "appears" else "disappears"
        return _Motion(owner, verb, frame if verb == "appears" else frame - 1, frame)
    half_width, half_height = reach(draft)
    if kind == "resize":
        low, high = SIZE_RANGES[draft.kind][draft.size]
        share = draft.extent / max(size)
        # the size stays in the range of its size word in every frame
        growth = high / share if share < (low + high) / 2 else low / share
        room = min(
            draft.x / half_width,
            (size.width - draft.x) / half_width,
            draft.y / half_height,
            (size.height - draft.y) / half_height,
        )
        if max(growth, 1 / growth) < 1.2 or growth > room or share < low:
            return None
        return _Motion(owner, "grows" if growth > 1 else "shrinks", first, last, growth=growth)
    if dice.chance(0.7):
        spare = (draft.x - half_width, size.width - half_width - draft.x)
        distance, positive = _travel(dice, spare, size.width)
        verb = "moves right" if positive else "moves left"
        across, down = (distance if positive else -distance), 0.0
    else:
        spare = (draft.y - half_height, size.height - half_height - draft.y)
        distance, positive = _travel(dice, spare, size.height)
        verb = "moves down" if positive else "moves up"
        across, down = 0.0, (distance if positive else -distance)
    return None if distance == 0 else _Motion(owner, verb, first, last, across=across, down=down)


def _travel(dice: Dice, spare: tuple[float, float], length: int) -> tuple[float, bool]:
    """Return a distance (0 without room) and whether it leads to larger coordinates."""
    positive = spare[1] > spare[0]
    room = max(spare)
    low, high = _TRAVEL[0] * length, min(_TRAVEL[1] * length, room - 1)
    return (dice.uniform(low, high) if low < high else 0.0), positive


def _at_frame(
    drafts: Sequence[Draft], motions: Sequence[_Motion], ground: Ground, frame: int
) -> tuple[list[Draft], tuple[int, ...]]:
    """Return the drafts at a frame, and their indices among all drafts."""
    by_owner = {motion.owner: motion for motion in motions}
    moved: list[Draft] = []
    alive: list[int] = []
    for owner, draft in enumerate(drafts):
        motion = by_owner.get(owner)
        if motion is not None:
            if motion.verb == "appears" and frame < motion.first:
                continue
            if motion.verb == "disappears" and frame >= motion.last:
                continue
        moved.append(draft if motion is None else _changed(draft, motion, ground, frame))
        alive.append(owner)
    number = {owner: position for position, owner in enumerate(alive)}

    def renumbered(link: int | None) -> int | None:
        return None if link is None else number[link]

    linked = [
        replace(
            draft,
            holder=renumbered(draft.holder),
            wearer=renumbered(draft.wearer),
            inside=renumbered(draft.inside),
            on=renumbered(draft.on),
        )
        for draft in moved
    ]
    return linked, tuple(alive)


def _changed(draft: Draft, motion: _Motion, ground: Ground, frame: int) -> Draft:
    if motion.last == motion.first:
        return draft
    share = min(1.0, max(0.0, (frame - motion.first) / (motion.last - motion.first)))
    share = share * share * (3 - 2 * share)
    moved = replace(
        draft,
        x=draft.x + motion.across * share,
        y=draft.y + motion.down * share,
        extent=draft.extent * motion.growth**share,
    )
    if motion.down:
        moved.depth = standing_depth(moved, ground)
    return moved


def _tracks(
    pictures: Sequence[tuple[Picture, tuple[int, ...]]],
) -> tuple[dict[int, int], tuple[tuple[int | None, ...], ...]]:
    """Return the track of each draft that is ever visible, and each track's index by frame."""
    places = [
        {alive[kept]: position for position, kept in enumerate(picture.kept)}
        for picture, alive in pictures
    ]
    seen = sorted({owner for place in places for owner in place})
    owners = {owner: track for track, owner in enumerate(seen)}
    return owners, tuple(tuple(place.get(owner) for place in places) for owner in seen)


def _planned_events(
    motions: Sequence[_Motion],
    owners: dict[int, int],
    tracks: Sequence[Sequence[int | None]],
) -> list[Event]:
    """Return the visible events: the subject is visible at the start and the end."""
    events = []
    for motion in motions:
        if motion.owner not in owners:
            continue
        track = owners[motion.owner]
        first_seen = tracks[track][motion.first] is not None
        last_seen = tracks[track][motion.last] is not None
        if motion.verb == "disappears":
            last_seen = True
        if first_seen and last_seen:
            events.append(Event(track, motion.verb, motion.first, motion.last))
    return events


def _passes(
    motions: Sequence[_Motion],
    owners: dict[int, int],
    tracks: Sequence[Sequence[int | None]],
    scenes: Sequence[Scene],
) -> list[Event]:
    """Return the visible events of movers that pass in front of another instance."""
    events = []
    movers = [motion for motion in motions if motion.owner in owners and motion.across]
    borders = [contact_lengths(scene) for scene in scenes] if movers else []
    for motion in movers:
        subject = owners[motion.owner]
        for other in range(len(tracks)):
            if other == subject:
                continue
            covered = [
                _covers_at(scene, border, tracks[subject][frame], tracks[other][frame])
                for frame, (scene, border) in enumerate(zip(scenes, borders, strict=True))
            ]
            runs = [
                (state, [frame for frame, _ in group])
                for state, group in groupby(enumerate(covered), key=_state)
            ]
            if [state for state, _ in runs] == [False, True, False]:
                span = runs[1][1]
                events.append(Event(subject, "passes in front of", span[0], span[-1], other))
    return events


def _state(numbered: tuple[int, bool]) -> bool:
    return numbered[1]


def _covers_at(
    scene: Scene, border: Int[ndarray, "things things"], subject: int | None, other: int | None
) -> bool:
    # an instance that is wholly hidden for a moment is still being passed
    if subject is None:
        return False
    return other is None or covers(scene, subject, other, border)
