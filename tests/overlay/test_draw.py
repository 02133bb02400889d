"""Units of answers are drawn in place, for images of any size."""

import numpy as np
import pytest
from jaxtyping import UInt8
from PIL import Image

from deixis.errors import ImageError
from deixis.geometry import (
    COCO_KEYPOINTS,
    Box,
    DepthMap,
    ImageSize,
    Keypoints,
    Mask,
    Point,
)
from deixis.overlay import draw_answer
from deixis.overlay.colors import PHRASE_COLORS, depth_colors, phrase_color, text_color_on
from deixis.structures import (
    Answer,
    GroundedPhrase,
    GroundedText,
    Problem,
    Reference,
    Unit,
    UnitGroup,
)


def _grey(height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    return np.full((height, width, 3), 128, np.uint8)


def _saying(*units: Unit | None, kind: str = "box", score: float | None = None) -> GroundedText:
    references = tuple(Reference((unit,), score) for unit in units)
    phrase = GroundedPhrase("the thing", 3, 12, (UnitGroup((kind,), references),))
    return GroundedText("It the thing is.", (phrase,))


def _changed(picture: Image.Image, plain: Image.Image) -> tuple[float, float, float, float]:
    different = np.abs(np.asarray(picture, int) - np.asarray(plain, int)).max(axis=2) > 40
    rows, columns = np.flatnonzero(different.any(axis=1)), np.flatnonzero(different.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _bare(image: UInt8[np.ndarray, "h w 3"], answer: GroundedText) -> Image.Image:
    # The phrase is empty, so that no label hides the units.
    phrases = tuple(GroundedPhrase("", 0, 0, phrase.groups) for phrase in answer.phrases)
    return draw_answer(image, GroundedText("", phrases), caption=False)


@pytest.mark.parametrize("size", [(96, 128), (128, 96), (600, 900), (1000, 1000)])
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_units_are_drawn_where_they_are(size: tuple[int, int], kind: str) -> None:
    height, width = size
    box = Box(width // 4, height // 3, width * 3 // 4, height // 2)
    unit = box if kind == "box" else Mask.from_box(box, ImageSize(*size))
    image = _grey(*size)
    drawn, plain = _bare(image, _saying(unit, kind=kind)), _bare(image, GroundedText(""))
    scale = drawn.width / width
    expected = np.array([box.x1, box.y1, box.x2, box.y2]) * scale
    assert np.abs(np.array(_changed(drawn, plain)) - expected).max() <= drawn.width / 80


@pytest.mark.parametrize("width", [1, 16, 128, 511, 512, 700, 4000])
def test_small_images_are_enlarged_and_large_ones_keep_their_size(width: int) -> None:
    drawn = draw_answer(_grey(max(1, width // 2), width), GroundedText("words"), caption=False)
    assert drawn.width == max(512, width)


@pytest.mark.parametrize("size", [(1, 100), (100, 1), (3000, 30), (30, 3000)])
def test_extreme_aspects_are_drawn(size: tuple[int, int]) -> None:
    height, width = size
    drawn = draw_answer(_grey(*size), _saying(Box(0, 0, width, height), score=0.5))
    assert drawn.width >= 512
    assert max(drawn.size) <= 4000


def test_units_at_and_beyond_the_edge_are_drawn() -> None:
    units = (Box(-5, -5, 2, 2), Box(63.5, 63.5, 64, 64), Point(0, 0), Point(64, 64))
    drawn = draw_answer(_grey(64, 64), _saying(*units, score=1.0))
    assert drawn.width == 512


def test_a_phrase_has_one_colour_in_image_and_caption() -> None:
    drawn = np.asarray(draw_answer(_grey(400, 600), _saying(Box(100, 100, 300, 300))))
    color = np.array(phrase_color(0))
    same = (drawn == color).all(axis=2)
    assert same[:400].any()
    assert same[400:].any()


def test_colours_differ_and_repeat() -> None:
    assert len(set(PHRASE_COLORS)) == len(PHRASE_COLORS)
    assert phrase_color(len(PHRASE_COLORS)) == phrase_color(0)
    assert text_color_on((255, 255, 255)) != text_color_on((0, 0, 0))


def test_a_skeleton_joins_its_keypoints() -> None:
    visibility = np.zeros(17, np.int8)
    positions = np.zeros((17, 2), np.float32)
    for name, place in {"left_shoulder": (20, 50), "left_elbow": (80, 50)}.items():
        index = COCO_KEYPOINTS.index(name)
        positions[index], visibility[index] = place, 2
    image = _grey(100, 100)
    drawn = _bare(image, _saying(Keypoints(positions, visibility), kind="keypoint"))
    plain = _bare(image, GroundedText(""))
    left, top, right, bottom = (value / 5.12 for value in _changed(drawn, plain))
    assert left == pytest.approx(20, abs=2)
    assert right == pytest.approx(80, abs=2)
    assert (top + bottom) / 2 == pytest.approx(50, abs=1)
    middle = np.asarray(drawn)[256, 256]
    assert np.abs(middle.astype(int) - phrase_color(0)).max() < 10


def test_joints_of_another_body_are_drawn_without_limbs() -> None:
    hand = Keypoints(
        np.array([[10, 10], [50, 50]], np.float32), np.array([2, 1], np.int8), ("tip", "wrist")
    )
    drawn = _bare(_grey(64, 64), _saying(hand, kind="keypoint"))
    assert np.asarray(drawn)[240, 240].tolist() == [128, 128, 128]


def test_absent_keypoints_draw_nothing() -> None:
    absent = Keypoints(np.zeros((17, 2), np.float32), np.zeros(17, np.int8))
    drawn = draw_answer(_grey(64, 64), _saying(absent, kind="keypoint"), caption=False)
    assert np.asarray(drawn).std() == 0


def test_an_empty_mask_draws_nothing() -> None:
    empty = Mask(np.zeros((64, 64), bool))
    drawn = draw_answer(_grey(64, 64), _saying(empty, kind="mask"), caption=False)
    assert np.asarray(drawn).std() == 0


@pytest.mark.parametrize(("size", "beside"), [((64, 64), True), ((64, 200), False)])
def test_depth_has_its_own_panel(size: tuple[int, int], *, beside: bool) -> None:
    values = np.tile(np.linspace(1, 9, size[1], dtype=np.float32), (size[0], 1))
    answer = _saying(DepthMap(values, "metric"), kind="depth")
    drawn = draw_answer(_grey(*size), answer, caption=False)
    plain = draw_answer(_grey(*size), GroundedText(""), caption=False)
    assert (drawn.width > plain.width * 1.9) == beside
    assert (drawn.height > plain.height * 1.9) != beside


def test_unknown_depth_is_grey_and_near_is_lighter_than_far() -> None:
    unknown = _saying(DepthMap(np.zeros((64, 64), np.float32), "relative"), kind="depth")
    panel = np.asarray(draw_answer(_grey(64, 64), unknown, caption=False))[:, 520:]
    assert np.unique(panel[100].reshape(-1, 3), axis=0).shape[0] == 1
    ramp = depth_colors(np.linspace(0, 1, 20)[None]).astype(int).sum(axis=2)[0]
    assert (np.diff(ramp) < 0).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "word",
        "many words " * 200,
        "x" * 5000,
        "tabs\tand\nnew lines\0and \x1b[31mcolours\u202e",
        "日本語 🦜",
    ],
)
def test_any_text_is_written_below(text: str) -> None:
    plain = draw_answer(_grey(64, 64), GroundedText(""), caption=False)
    drawn = draw_answer(_grey(64, 64), GroundedText(text), question=text)
    assert drawn.height > plain.height
    assert drawn.height < 6000


def test_nested_and_empty_phrases_are_marked() -> None:
    box = UnitGroup(("box",), (Reference((Box(1, 1, 9, 9),)),))
    phrases = (
        GroundedPhrase("a man with a hat", 0, 16, (box,)),
        GroundedPhrase("a hat", 11, 16, (box,)),
        GroundedPhrase("no dog", 21, 27, (UnitGroup(("box",), ()),)),
    )
    drawn = np.asarray(
        draw_answer(_grey(20, 20), GroundedText("a man with a hat and no dog", phrases))
    )
    caption = drawn[512:]
    areas = [(caption == phrase_color(index)).all(axis=2).sum() for index in range(3)]
    assert areas[0] > areas[1] > areas[2] > 0


def test_problems_and_undecoded_units_lengthen_the_caption() -> None:
    size = ImageSize(64, 64)
    plain = draw_answer(_grey(64, 64), Answer(_saying(Box(1, 1, 9, 9)), size))
    undecoded = draw_answer(_grey(64, 64), Answer(_saying(None, kind="polygon"), size))
    problem = Answer(
        _saying(Box(1, 1, 9, 9)), size, problems=(Problem("unclosed_phrase", "words"),)
    )
    cut = Answer(_saying(Box(1, 1, 9, 9)), size, finish_reason="length")
    for drawn in (undecoded, draw_answer(_grey(64, 64), problem), draw_answer(_grey(64, 64), cut)):
        assert drawn.height > plain.height


def test_many_units_are_drawn() -> None:
    boxes = [Box(x, y, x + 5, y + 5) for x in range(0, 90, 9) for y in range(0, 90, 9)]
    assert draw_answer(_grey(96, 96), _saying(*boxes, score=0.5)).width == 512


def test_an_answer_about_another_image_is_refused() -> None:
    other = Answer(GroundedText("words"), ImageSize(5, 6))
    with pytest.raises(ImageError, match=r"image of 64x32 pixels: not the one .* expected 6x5"):
        draw_answer(_grey(32, 64), other)
    mask = Mask(np.ones((3, 4), bool))
    with pytest.raises(ImageError, match="not the one that was asked about, expected 4x3"):
        draw_answer(_grey(32, 64), _saying(mask, kind="mask"))


def test_drawing_is_deterministic_and_leaves_the_image_unchanged() -> None:
    image = _grey(64, 64)
    answer = _saying(Box(5, 5, 30, 30), score=0.5)
    first, second = draw_answer(image, answer), draw_answer(image, answer)
    assert first.tobytes() == second.tobytes()
    assert (image == 128).all()
