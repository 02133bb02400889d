from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.errors import NotationError
from deixis.geometry import Box, ImageSize, Mask, Point, Scribble
from deixis.notation import Coordinates, Marker, TaggedRegion, place_regions, read_tags
from deixis.structures import Region

SIZE = ImageSize(100, 200)


def cut(raw: str) -> list[Marker | str]:
    return Coordinates().parse_text(raw)


def test_the_tag_decides_what_is_asked_with() -> None:
    pieces = cut("Is <ref>the red dog</ref> in <loc> [0.100,0.250,0.600,0.500] </loc>?")
    tags = read_tags(pieces, SIZE)
    assert tags == (TaggedRegion("the red dog", 4), TaggedRegion(Box(20, 0, 120, 50), 8))
    placed = place_regions(pieces, tags, num_tokens=2)
    assert "".join(placed) == (
        "Is <ref>the red dog</ref><region><region> in <loc> [0.100,0.250,0.600,0.500] </loc>"
        "<region><region>?"
    )


def test_a_question_without_tags_has_no_region() -> None:
    pieces = cut("What is there [0.1,0.2]?")
    assert read_tags(pieces, SIZE) == ()
    assert place_regions(pieces, (), num_tokens=3) == tuple(pieces)
    assert read_tags([], SIZE) == ()


def test_what_a_person_typed_is_no_tag() -> None:
    typed = "<ref>a</ref> </ref> <loc>[0,0,1,1]</loc>"
    assert read_tags([typed], SIZE) == ()
    for piece in ("<ref>", "</ref>", "<loc>", "</loc>"):
        assert read_tags(["a ", piece, " b"], SIZE) == ()
    tagged = [Marker.EXPRESSION_OPEN, "a ", "</ref>", " b", Marker.EXPRESSION_CLOSE]
    assert read_tags(tagged, SIZE) == (TaggedRegion("a </ref> b", 5),)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("<ref>dog", "<ref> is not closed"),
        ("a dog</ref>", "</ref> at piece 1 closes no tag"),
        ("<ref>a <loc>[0,0,1,1]</loc></ref>", "<loc> at piece 2 lies inside <ref>"),
        ("<ref>a</loc>", "</loc> at piece 2 lies inside <ref>"),
        ("<ref> </ref>", "nothing stands between <ref> and </ref>"),
        ("<loc></loc>", "nothing stands between <loc> and </loc>"),
        ("<loc>here</loc>", r"region 'here': expected \[x1,y1,x2,y2\] or \[x,y\]"),
        ("<loc>[0.1,0.3,0.2]</loc>", r"\[0.1,0.3,0.2\] is neither boxes nor points"),
        ("<loc>[0.1,0.3;0.2,0.4]</loc>", "expected"),
        ("<loc>[0.1,0.3][0.2,0.4]</loc>", "expected"),
        ("<loc>[0.1,0.3] and</loc>", "expected"),
        ("<loc>[0.6,0.3,0.2,0.7]</loc>", "the corners of .* are mixed"),
        ("<loc>[0.1,0.3,0.2,1.7]</loc>", "coordinate 1.7 lies outside the image"),
        ("<loc>[0.1,0.3,0.2,1e999]</loc>", "lies outside the image"),
        ("<loc>[0.1,0.3,0.2,nan]</loc>", "expected"),
    ],
)
def test_tags_that_say_nothing_sound_are_refused(raw: str, message: str) -> None:
    with pytest.raises(NotationError, match=message):
        read_tags(cut(raw), SIZE)


@pytest.mark.parametrize(
    ("region", "written"),
    [
        (Box(20, 0, 120, 50), "[0.100,0.250,0.600,0.500]"),
        (Box(-20, 0, 120, 500), "[0.000,0.250,0.600,0.750]"),
        (Point(100, 50), "[0.500,0.500]"),
        (Scribble(((20.5, 50.5), (119.5, 50.5)), width=1), "[0.100,0.500,0.600,0.505]"),
        (Mask.from_box(Box(20, 0, 120, 50), SIZE), "[0.100,0.250,0.600,0.500]"),
    ],
)
def test_a_region_is_written_as_numbers(region: Region, written: str) -> None:
    assert Coordinates(marks=False).write_region(region, SIZE) == (written,)
    assert "".join(Coordinates().write_region(region, SIZE)) == f"<loc>{written}</loc>"


@pytest.mark.parametrize(
    "region",
    [
        Box(200, 0, 220, 50),
        Point(100, 101),
        Scribble(((300.0, 5.0),), width=2),
        Mask(np.zeros((100, 200), bool)),
        Mask(np.ones((10, 10), bool)),
    ],
)
def test_a_region_outside_the_image_is_refused(region: Region) -> None:
    with pytest.raises(NotationError, match="region cannot be written as coordinates: "):
        Coordinates().write_region(region, SIZE)


def numbers_of(region: Region) -> Sequence[float]:
    assert isinstance(region, Box | Point)
    if isinstance(region, Point):
        return region.x, region.y
    return region.x1, region.y1, region.x2, region.y2


@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    places=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    is_point=st.booleans(),
    decimals=st.integers(2, 5),
)
def test_what_is_written_is_read_within_half_a_step(
    width: int,
    height: int,
    places: list[float],
    is_point: bool,  # noqa: FBT001
    decimals: int,
) -> None:
    size = ImageSize(height, width)
    (x1, x2), (y1, y2) = sorted(places[:2]), sorted(places[2:])
    step = max(size) / 10**decimals
    region: Box | Point
    if is_point:
        region, slack = Point(x1 * width, y1 * height), 0.5
    else:
        if (x2 - x1) * width < 1e-6 or (y2 - y1) * height < 1e-6:
            return
        region, slack = Box(x1 * width, y1 * height, x2 * width, y2 * height), 1.5
    notation = Coordinates(marks=False, decimals=decimals)
    (text,) = notation.write_region(region, size)
    read = notation.read_region(text, size)
    assert type(read) is type(region)
    assert numbers_of(read) == pytest.approx(numbers_of(region), abs=slack * step + 1e-6)
