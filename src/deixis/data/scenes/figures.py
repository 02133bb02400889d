"""Draws jointed figures: COCO's 17 keypoints, limbs between them, a face and clothes."""

from collections.abc import Sequence
from math import cos, sin

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from deixis.data.scenes.seeds import Dice
from deixis.data.scenes.sprites import Draft, Layer, Pose, Rgb, Window, limb, window

SKINS: tuple[Rgb, ...] = (
    (250, 214, 184),
    (232, 184, 144),
    (198, 142, 100),
    (148, 98, 66),
    (104, 68, 48),
)
HAIRS: tuple[Rgb, ...] = (
    (44, 34, 30),
    (96, 62, 36),
    (196, 160, 92),
    (150, 150, 150),
    (122, 58, 30),
)
TROUSERS: tuple[Rgb, ...] = ((92, 98, 112), (142, 128, 108), (112, 100, 96), (84, 88, 90))

HEAD = (0.0, -0.80)
HEAD_RADIUS = 0.165
ARM = 0.30
FOREARM = 0.29
THIGH = 0.40
SHIN = 0.40
HAND_RADIUS = 0.062

Joint = tuple[float, float]


def roll_pose(dice: Dice, *, raised: int | None = None) -> Pose:
    """Draw a random pose; ``raised`` is the arm (0 left, 1 right) that holds an instance."""
    shoulders = [dice.uniform(0.15, 1.1), dice.uniform(0.15, 1.1)]
    elbows = [dice.uniform(-0.2, 0.9), dice.uniform(-0.2, 0.9)]
    if raised is None and dice.chance(0.2):
        waving = dice.whole(0, 1)
        shoulders[waving], elbows[waving] = dice.uniform(1.9, 2.5), dice.uniform(0.2, 0.7)
    if raised is not None:
        shoulders[raised], elbows[raised] = dice.uniform(0.7, 1.15), dice.uniform(0.9, 1.4)
    return Pose(
        (shoulders[0], shoulders[1]),
        (elbows[0], elbows[1]),
        (dice.uniform(0.04, 0.30), dice.uniform(0.04, 0.30)),
        dice.pick(SKINS),
        dice.pick(HAIRS),
        dice.pick(TROUSERS),
    )


def joints(draft: Draft, pose: Pose) -> Float32[ndarray, "17 2"]:
    """Return a figure's keypoints in COCO's order, in pixels of the canvas."""
    own = np.array(_own_joints(pose), np.float32)
    middle = np.array([draft.x, draft.y], np.float32)
    return np.asarray(own * np.float32(draft.extent / 2) + middle)


def hand(draft: Draft, pose: Pose, side: int) -> Joint:
    """Return the position of a hand, a little beyond the wrist, in pixels of the canvas."""
    points = _own_joints(pose)
    wrist, elbow = points[9 + side], points[7 + side]
    scale = draft.extent / 2
    reach = 1.0 + HAND_RADIUS / FOREARM
    return (
        draft.x + scale * (elbow[0] + (wrist[0] - elbow[0]) * reach),
        draft.y + scale * (elbow[1] + (wrist[1] - elbow[1]) * reach),
    )


def _own_joints(pose: Pose) -> list[Joint]:
    x, y = HEAD
    # figures face the viewer, so the person's left is on the picture's right
    points: list[Joint] = [
        (x, y + 0.025),
        (x + 0.06, y - 0.035),
        (x - 0.06, y - 0.035),
        (x + 0.155, y - 0.01),
        (x - 0.155, y - 0.01),
    ]
    shoulders: list[Joint] = [(0.205, -0.52), (-0.205, -0.52)]
    elbows: list[Joint] = []
    wrists: list[Joint] = []
    hips: list[Joint] = [(0.115, 0.10), (-0.115, 0.10)]
    knees: list[Joint] = []
    ankles: list[Joint] = []
    for side, sign in enumerate((1.0, -1.0)):
        angle = pose.shoulders[side]
        bend = angle + pose.elbows[side]
        elbow = (
            shoulders[side][0] + sign * ARM * sin(angle),
            shoulders[side][1] + ARM * cos(angle),
        )
        elbows.append(elbow)
        wrists.append((elbow[0] + sign * FOREARM * sin(bend), elbow[1] + FOREARM * cos(bend)))
        spread = pose.hips[side]
        knee = (hips[side][0] + sign * THIGH * sin(spread), hips[side][1] + THIGH * cos(spread))
        knees.append(knee)
        inner = spread * 0.4
        ankles.append((knee[0] + sign * SHIN * sin(inner), knee[1] + SHIN * cos(inner)))
    for pair in (shoulders, elbows, wrists, hips, knees, ankles):
        points += pair
    return points


def draw_figure(draft: Draft, pose: Pose, owner: int, canvas: tuple[int, int]) -> list[Layer]:
    """Return the layer of a figure: limbs from back to front, then clothes and face."""
    points = _own_joints(pose)
    place = window(draft, canvas, _reach(points))
    if place is None:
        return []
    alpha = np.zeros(place.x.shape, np.float32)
    paint = np.zeros((3, *alpha.shape), np.float32)
    shirt, skin = draft.rgb, pose.skin
    dark_shirt = (shirt[0] * 0.82, shirt[1] * 0.82, shirt[2] * 0.82)
    shoe = (pose.trousers[0] * 0.45, pose.trousers[1] * 0.45, pose.trousers[2] * 0.45)

    def stroke(start: Joint, end: Joint, radius: float, color: Rgb) -> None:
        _blend(place, alpha, paint, start, end, radius, color)

    for side, sign in ((0, 1.0), (1, -1.0)):
        hip, knee, ankle = points[11 + side], points[13 + side], points[15 + side]
        stroke(ankle, (ankle[0] + sign * 0.07, ankle[1] + 0.04), 0.06, shoe)
        stroke(knee, ankle, 0.072, pose.trousers)
        stroke(hip, knee, 0.092, pose.trousers)
    for side in (0, 1):
        shoulder, elbow, wrist = points[5 + side], points[7 + side], points[9 + side]
        stroke(elbow, wrist, 0.055, skin)
        grip = (
            elbow[0] + (wrist[0] - elbow[0]) * 1.12,
            elbow[1] + (wrist[1] - elbow[1]) * 1.12,
        )
        stroke(wrist, grip, HAND_RADIUS, skin)
        stroke(shoulder, elbow, 0.078, dark_shirt)
    stroke((0.0, -0.66), (0.0, -0.55), 0.07, skin)
    for offset in (0.105, -0.105, 0.0):
        stroke((offset, -0.46), (offset * 0.8, 0.04), 0.14, shirt)
    _dress(draft, place, paint)
    stroke((0.0, HEAD[1] - 0.025), (0.0, HEAD[1] - 0.01), HEAD_RADIUS + 0.012, pose.hair)
    stroke(points[3], points[3], 0.032, skin)
    stroke(points[4], points[4], 0.032, skin)
    stroke((0.0, HEAD[1] + 0.03), (0.0, HEAD[1] + 0.045), HEAD_RADIUS - 0.028, skin)
    dark = (38.0, 30.0, 30.0)
    for eye in points[1:3]:
        stroke(eye, eye, 0.022, dark)
    nose = points[0]
    stroke(nose, (nose[0], nose[1] + 0.012), 0.016, (skin[0] * 0.8, skin[1] * 0.72, skin[2] * 0.7))
    stroke((-0.035, HEAD[1] + 0.095), (0.035, HEAD[1] + 0.095), 0.014, (170.0, 70.0, 70.0))
    body = Layer(owner, draft.depth, place.left, place.top, alpha, paint, alpha >= np.float32(0.5))
    return [body]


def _reach(points: Sequence[Joint]) -> tuple[float, float, float, float]:
    across, down = [x for x, _ in points], [y for _, y in points]
    # hands reach beyond wrists and feet beyond ankles; hair or a hand may be highest
    return (
        min(across) - 0.16,
        min(-1.0, min(down) - 0.12),
        max(across) + 0.16,
        max(down) + 0.12,
    )


def _dress(draft: Draft, place: Window, paint: Float32[ndarray, "3 height width"]) -> None:
    """Repaint the torso with the figure's texture."""
    if draft.texture == "plain":
        return
    torso = (
        (abs(place.x) < np.float32(0.24))
        & (place.y > np.float32(-0.58))
        & (place.y < np.float32(0.10))
    )
    if draft.texture == "striped":
        turns = place.y * np.float32(1 / 0.17)
        marked = abs(turns - np.rint(turns)) < np.float32(0.26)
    else:
        across, down = place.x * np.float32(1 / 0.16), place.y * np.float32(1 / 0.16)
        across, down = across - np.rint(across), down - np.rint(down)
        marked = across * across + down * down < np.float32(0.09)
    base = np.array(draft.rgb, np.float32)[:, None, None]
    other = np.array(draft.tone, np.float32)[:, None, None]
    near = abs(paint - base).sum(axis=0) < np.float32(1.0)
    np.copyto(paint, other, where=torso & marked & near)


def _blend(
    place: Window,
    alpha: Float32[ndarray, "height width"],
    paint: Float32[ndarray, "3 height width"],
    start: Joint,
    end: Joint,
    radius: float,
    color: Rgb,
) -> None:
    rows, columns, distance = limb(place, start, end, radius)
    if distance.size == 0:
        return
    distance *= np.float32(-place.scale)
    cover = np.minimum(np.maximum(distance + np.float32(0.5), np.float32(0.0)), np.float32(1.0))
    inside = alpha[rows, columns]
    np.maximum(inside, cover, out=inside)
    part = paint[:, rows, columns]
    fresh = part.sum(axis=0) == 0
    cover[fresh & (cover > 0)] = 1.0
    part += cover * (np.array(color, np.float32)[:, None, None] - part)
