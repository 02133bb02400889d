import hashlib
import multiprocessing
import subprocess
import sys
from functools import cache, partial

import numpy as np
import pytest

from deixis.data.scenes import Scene, draw_scene
from deixis.data.scenes.drawing import MIN_PIXELS, MIN_READABLE, draw_layers, roll_size
from deixis.data.scenes.grounds import Ground, roll_ground
from deixis.data.scenes.layout import LEVEL_RULES, plan_scene
from deixis.data.scenes.seeds import scene_dice
from deixis.data.scenes.sprites import Draft
from deixis.data.scenes.vocabulary import (
    COLOR_VALUES,
    COLORS,
    CONTAINERS,
    DIGITS,
    FIGURE,
    HOLDABLES,
    LETTERS,
    LEVELS,
    NAMES,
    SHAPES,
    SIZE_RANGES,
    SIZES,
    SPLITS,
    SURFACES,
    TEXTURES,
    TONE_VALUES,
    WEARABLES,
)
from deixis.errors import GeometryError
from deixis.geometry import ImageSize

COUNT = 60


@cache
def scenes(level: str) -> tuple[Scene, ...]:
    return tuple(draw_scene(11, index, level=level) for index in range(COUNT))


def digest(scene: Scene) -> str:
    parts = [scene.image.tobytes(), scene.labels.tobytes(), scene.depth.tobytes()]
    words = [(t.name, t.symbol, t.color, t.size, t.texture, t.box, t.depth) for t in scene.things]
    return hashlib.sha256(b"".join(parts) + repr(words).encode()).hexdigest()


def planned(scene: Scene) -> tuple[list[Draft], Ground, ImageSize]:
    """Return the drafts of a scene by planning it again."""
    dice = scene_dice(scene.seed, scene.index, level=scene.level, split=scene.split)
    size = roll_size(dice, max(scene.size))
    ground = roll_ground(dice, size.height, size.width, level=scene.level)
    return plan_scene(dice, size.height, size.width, ground, level=scene.level), ground, size


def drawn_drafts(scene: Scene) -> list[int]:
    """Return the drafts that became instances, by their exact distances."""
    drafts, _, _ = planned(scene)
    places = {draft.depth: owner for owner, draft in enumerate(drafts)}
    return [places[thing.depth] for thing in scene.things]


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_call_gives_the_same_bytes(level: str) -> None:
    again = draw_scene(11, 3, level=level)
    assert digest(again) == digest(scenes(level)[3])


def test_another_process_gives_the_same_bytes() -> None:
    code = (
        "import hashlib\n"
        "from deixis.data.scenes import draw_scene\n"
        "for index in range(4):\n"
        "    scene = draw_scene(11, index)\n"
        "    print(hashlib.sha256(scene.image.tobytes() + scene.labels.tobytes()).hexdigest())\n"
    )
    run = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [
        hashlib.sha256(scene.image.tobytes() + scene.labels.tobytes()).hexdigest()
        for scene in scenes("standard")[:4]
    ]
    assert run.stdout.split() == expected


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes(workers: int) -> None:
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        drawn = pool.map(partial(draw_scene, 11), range(6), chunksize=1)
    assert [digest(scene) for scene in drawn] == [digest(s) for s in scenes("standard")[:6]]


def test_splits_levels_seeds_and_indices_give_different_scenes() -> None:
    digests = [digest(draw_scene(11, 0, split=split, long_side=96)) for split in SPLITS]
    digests += [digest(draw_scene(11, 0, level=level, long_side=96)) for level in ("plain", "hard")]
    digests += [digest(draw_scene(seed, 0, long_side=96)) for seed in (12, 2**32 + 11, 0)]
    digests += [digest(draw_scene(11, index, long_side=96)) for index in (1, 2**32, 11)]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("level", LEVELS)
def test_labels_are_the_nearest_layer_at_every_pixel(level: str) -> None:
    for scene in scenes(level)[:12]:
        drafts, ground, size = planned(scene)
        owners = drawn_drafts(scene)
        nearest = np.repeat(ground.distances[:, None], size.width, axis=1)
        labels = np.full((size.height, size.width), -1)
        for layer in draw_layers(drafts, size):
            if layer.owner not in owners:
                continue
            rows, columns = np.nonzero(layer.mask)
            rows, columns = rows + layer.top, columns + layer.left
            closer = np.float32(layer.depth) <= nearest[rows, columns]
            rows, columns = rows[closer], columns[closer]
            nearest[rows, columns] = np.float32(layer.depth)
            labels[rows, columns] = owners.index(layer.owner)
        np.testing.assert_array_equal(scene.labels, labels)
        np.testing.assert_array_equal(scene.depth, nearest.astype(np.float32))


@pytest.mark.parametrize("level", LEVELS)
def test_boxes_and_visibility_match_instances_drawn_alone(level: str) -> None:
    for scene in scenes(level)[:12]:
        drafts, _, size = planned(scene)
        layers = draw_layers(drafts, size)
        for index, owner in enumerate(drawn_drafts(scene)):
            alone = np.zeros((size.height, size.width), bool)
            for layer in layers:
                if layer.owner == owner:
                    height, width = layer.mask.shape
                    alone[layer.top : layer.top + height, layer.left : layer.left + width] |= (
                        layer.mask
                    )
            thing, visible = scene.things[index], scene.labels == index
            assert thing.full_box == bounds(alone)
            assert thing.box == bounds(visible)
            assert thing.visibility == visible.sum() / alone.sum()
            np.testing.assert_array_equal(scene.mask(index), visible)


def bounds(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1.0, rows.max() + 1.0


@pytest.mark.parametrize("level", LEVELS)
def test_every_instance_of_a_scene_is_visible(level: str) -> None:
    rules = LEVEL_RULES[level]
    for scene in scenes(level):
        assert 1 <= len(scene.things) <= rules.counts[1]
        assert set(np.unique(scene.labels)) - {-1} == set(range(len(scene.things)))
        for index, thing in enumerate(scene.things):
            assert scene.mask(index).sum() >= MIN_PIXELS
            assert thing.visibility >= (
                max(rules.visibility, MIN_READABLE) if thing.symbol else rules.visibility
            )


def test_plain_scenes_have_almost_no_occlusion() -> None:
    assert all(thing.visibility > 0.85 for scene in scenes("plain") for thing in scene.things)


@pytest.mark.parametrize("level", LEVELS)
def test_pictures_have_the_announced_size_and_known_distances(level: str) -> None:
    for scene in scenes(level):
        height, width = scene.size
        assert max(height, width) == 224
        assert scene.image.shape == (height, width, 3)
        assert scene.image.dtype == np.uint8
        assert scene.labels.shape == scene.depth.shape == (height, width)
        assert scene.labels.dtype == np.int16
        assert np.isfinite(scene.depth).all()
        assert (scene.depth > 0).all()
        for thing in scene.things:
            assert thing.box is not None
            (x1, y1, x2, y2), full = thing.box, thing.full_box
            assert 0 <= full[0] <= x1 < x2 <= full[2] <= width
            assert 0 <= full[1] <= y1 < y2 <= full[3] <= height
            assert thing.center == ((full[0] + full[2]) / 2, (full[1] + full[3]) / 2)


def test_canvases_are_landscapes_portraits_and_squares() -> None:
    shapes = {np.sign(scene.size.width - scene.size.height) for scene in scenes("standard")}
    assert shapes == {-1, 0, 1}
    assert len({tuple(scene.size) for scene in scenes("standard")}) == 5


@pytest.mark.parametrize("long_side", [64, 100, 448])
def test_other_canvases_hold_scenes_too(long_side: int) -> None:
    for index in range(6):
        scene = draw_scene(11, index, level="hard", long_side=long_side)
        assert max(scene.size) == long_side
        assert scene.things


def test_scenes_use_all_words_of_the_vocabulary_and_no_others() -> None:
    things = [thing for level in LEVELS for scene in scenes(level) for thing in scene.things]
    assert {thing.color for thing in things} == set(COLORS)
    assert {thing.size for thing in things} == set(SIZES)
    assert {thing.texture for thing in things} == set(TEXTURES)
    assert {thing.name for thing in things} == set(NAMES)
    kinds = {
        "shape": {*SHAPES, *HOLDABLES, *WEARABLES},
        "container": set(CONTAINERS),
        "surface": set(SURFACES),
        "figure": {FIGURE},
        "letter": {"letter"},
        "digit": {"digit"},
    }
    for thing in things:
        assert thing.name in kinds[thing.kind]
        allowed = {"letter": set(LETTERS), "digit": set(DIGITS)}.get(thing.kind, {""})
        assert thing.symbol in allowed
        assert (thing.keypoints is not None) == (thing.kind == "figure")


# halfway between the largest measure of one size and the smallest of the next
THRESHOLDS = {
    kind: (
        (ranges["small"][1] * 1.13 + ranges["medium"][0] * 0.93) / 2,
        (ranges["medium"][1] * 1.13 + ranges["large"][0] * 0.93) / 2,
    )
    for kind, ranges in SIZE_RANGES.items()
}


def test_size_words_match_measured_sizes() -> None:
    measured = 0
    for scene in scenes("standard") + scenes("hard") + scenes("plain"):
        height, width = scene.size
        for thing in scene.things:
            x1, y1, x2, y2 = thing.full_box
            if x1 == 0 or y1 == 0 or x2 == width or y2 == height:
                continue
            # arms reach sideways, so people are measured vertically
            side = y2 - y1 if thing.kind == "figure" else max(x2 - x1, y2 - y1)
            low, high = THRESHOLDS[thing.kind]
            share = side / max(scene.size)
            word = "small" if share < low else "medium" if share < high else "large"
            assert thing.size == word, (thing.name, share)
            measured += 1
    assert measured > 500


def test_color_words_match_measured_colors_in_every_texture() -> None:
    # candidate pixels of each colour: both tones, from shade to light
    palette, words = [], []
    for color in COLORS:
        base, tone = np.array(COLOR_VALUES[color]), np.array(TONE_VALUES[color])
        for share in (0.0, 0.5, 1.0):
            for light in (0.85, 0.95, 1.05):
                palette.append((base + share * (tone - base)) * light)
                words.append(color)
    table = np.array(palette)
    seen = set()
    for scene in scenes("standard") + scenes("plain"):
        for index, thing in enumerate(scene.things):
            mask = scene.mask(index)
            if thing.kind not in {"shape", "letter", "digit"} or mask.sum() < 150:
                continue
            pixels = scene.image[mask].astype(float)
            nearest = np.square(pixels[:, None] - table[None]).sum(axis=2).argmin(axis=1)
            names, votes = np.unique([words[place] for place in nearest], return_counts=True)
            assert names[votes.argmax()] == thing.color, (thing.name, thing.texture)
            seen.add((thing.color, thing.texture))
    assert len(seen) == len(COLORS) * len(TEXTURES)


def test_striped_and_dotted_instances_have_two_tones_and_plain_ones_one() -> None:
    for scene in scenes("standard"):
        for index, thing in enumerate(scene.things):
            mask = scene.mask(index)
            if thing.kind != "shape" or mask.sum() < 200 or thing.visibility < 0.9:
                continue
            base, tone = np.array(COLOR_VALUES[thing.color]), np.array(TONE_VALUES[thing.color])
            step = (tone - base).astype(float)
            place = (scene.image[mask].astype(float) - base) @ step / (step @ step)
            second = (place > 0.6).mean()
            if thing.texture == "plain":
                # rims are darker, like some second tones
                assert second < 0.35, (thing.name, thing.color)
            else:
                assert 0.1 < second < 0.8, (thing.name, thing.color, thing.texture)


@pytest.mark.parametrize("level", LEVELS)
def test_links_between_instances_are_mutual_and_well_typed(level: str) -> None:
    for scene in scenes(level):
        things = scene.things
        for index, thing in enumerate(things):
            if thing.holds or thing.wears:
                assert thing.kind == "figure"
            assert index not in {*thing.holds, *thing.wears, thing.inside, thing.on}
            assert all(things[other].depth < thing.depth for other in (*thing.holds, *thing.wears))
            assert all(things[other].name in WEARABLES for other in thing.wears)
            if thing.inside is not None:
                assert things[thing.inside].kind == "container"
                assert thing.depth > things[thing.inside].depth
            if thing.on is not None:
                assert things[thing.on].kind == "surface"
                assert thing.depth < things[thing.on].depth


def test_carried_instances_touch_their_carrier() -> None:
    links = 0
    for scene in scenes("standard") + scenes("hard"):
        for index, thing in enumerate(scene.things):
            pairs = [(index, other) for other in (*thing.holds, *thing.wears)]
            pairs += [(index, other) for other in (thing.inside, thing.on) if other is not None]
            for first, second in pairs:
                a, b = scene.things[first].full_box, scene.things[second].full_box
                assert min(a[2], b[2]) > max(a[0], b[0])
                assert min(a[3], b[3]) > max(a[1], b[1])
                links += 1
    assert links > 80


@pytest.mark.parametrize("level", LEVELS)
def test_keypoints_are_marked_hidden_behind_nearer_instances(level: str) -> None:
    flags: set[float] = set()
    for scene in scenes(level):
        for thing in scene.things:
            if thing.keypoints is None:
                continue
            for x, y, flag in thing.keypoints.tolist():
                flags.add(flag)
                if flag == 0:
                    assert (x, y) == (0, 0)
                    continue
                front = scene.labels[int(y), int(x)]
                nearer = front >= 0 and scene.depth[int(y), int(x)] < np.float32(thing.depth)
                assert flag == (1 if nearer else 2)
    assert flags <= {0, 1, 2}
    assert level == "plain" or flags == {0, 1, 2}


def test_visible_keypoints_lie_on_their_figure() -> None:
    on_figure = total = 0
    for scene in scenes("standard"):
        for index, thing in enumerate(scene.things):
            if thing.keypoints is not None:
                seen = thing.keypoints[thing.keypoints[:, 2] == 2]
                labels = scene.labels[seen[:, 1].astype(int), seen[:, 0].astype(int)]
                on_figure += int((labels == index).sum())
                total += len(seen)
    assert on_figure > 0.99 * total


def test_hard_scenes_have_look_alikes_tiny_instances_and_occlusion() -> None:
    hard, standard = scenes("hard"), scenes("standard")

    def hidden(group: tuple[Scene, ...]) -> float:
        return float(np.mean([t.visibility < 0.8 for scene in group for t in scene.things]))

    def alike(group: tuple[Scene, ...]) -> float:
        return float(
            np.mean([len({(t.name, t.color) for t in s.things}) < len(s.things) for s in group])
        )

    smallest = min(
        max(t.full_box[2] - t.full_box[0], t.full_box[3] - t.full_box[1])
        for scene in hard
        for t in scene.things
    )
    assert hidden(hard) > hidden(standard)
    assert alike(hard) > alike(standard)
    assert smallest < 0.06 * 224


def test_scenes_do_not_share_arrays() -> None:
    first, second = draw_scene(11, 0), draw_scene(11, 0)
    first.image[:] = 0
    assert second.image.any()
    assert digest(draw_scene(11, 0)) == digest(second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "scene 0 of seed -1: expected numbers of at least 0"),
        ({"index": -5}, "scene -5 of seed 0: expected numbers of at least 0"),
        ({"level": "easy"}, "unknown scene level 'easy': expected one of plain, standard, hard"),
        ({"split": "dev"}, "unknown split 'dev': expected one of train, val"),
        ({"long_side": 10}, "long side 10 of a scene: expected at least 64 pixels"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, int | str], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        draw_scene(**{"seed": 0, "index": 0, **arguments})  # type: ignore[arg-type] # on purpose
