"""Regions are inserted at their places in the question."""

from typing import Any, cast

import pytest

from deixis.cli.region_arguments import place_regions, read_regions
from deixis.errors import GeometryError, PromptError
from deixis.geometry import Box, ImageSize, Point, Scribble
from deixis.structures import Region

BOX, POINT = Box(1, 2, 3, 4), Point(5, 6)


@pytest.mark.parametrize(
    ("prompt", "regions", "parts"),
    [
        ("Where is it?", (), ("Where is it?",)),
        ("What is {region}?", (), ("What is {region}?",)),
        ("What is {region}?", (BOX,), ("What is ", BOX, "?")),
        ("{region} or {region}", (BOX, POINT), (BOX, " or ", POINT)),
        ("What is this?", (BOX,), ("What is ", BOX, "?")),
        ("Describe this", (BOX,), ("Describe ", BOX)),
        ("What is this shape?", (BOX,), ("What is this shape? ", BOX)),
        ("What is this, and this?", (BOX, POINT), ("What is ", BOX, ", and ", POINT, "?")),
        ("What is this?", (BOX, POINT), ("What is this? ", BOX, " ", POINT)),
        ("Describe ", (BOX,), ("Describe ", BOX)),
    ],
)
def test_regions_are_placed(prompt: str, regions: tuple[Box, ...], parts: tuple[object]) -> None:
    assert place_regions(prompt, regions) == parts


@pytest.mark.parametrize("prompt", ["{region}{region}", "{region} {region} {region} {region}"])
def test_too_many_or_too_few_places_are_refused(prompt: str) -> None:
    with pytest.raises(PromptError, match=r"times, expected 3, once for each region"):
        place_regions(prompt, (BOX, POINT, BOX))


SIZE = ImageSize(120, 200)


def _read(*, normalized: bool = False, **given: list[str]) -> tuple[Region, ...]:
    return read_regions(
        SIZE,
        boxes=given.get("boxes", []),
        points=given.get("points", []),
        scribbles=given.get("scribbles", []),
        masks=[],
        normalized=normalized,
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"boxes": ["0.34,0.31,0.75,0.68"]}, r"box .* looks like fractions, expected pixels"),
        ({"boxes": ["0,0,1,1"]}, "looks like fractions, expected pixels of a 200x120 image"),
        ({"points": ["0.5,0.5"]}, r"point \(0.5, 0.5\) looks like fractions"),
        ({"points": ["1,0.2"]}, "looks like fractions"),
        ({"scribbles": ["0.1,0.2,0.3,0.4@5"]}, r"scribble .* looks like fractions"),
        ({"boxes": ["34%,31%,75%,68%"]}, "'34%,31%,75%,68%': looks like percentages"),
        ({"points": ["50%,50%"]}, "looks like percentages, expected pixels"),
    ],
)
def test_fractions_are_refused_with_a_hint(given: dict[str, list[str]], message: str) -> None:
    with pytest.raises(GeometryError, match=message) as caught:
        _read(**cast("Any", given))
    assert "hint: give pixels, or fractions of the sides (0 to 1) with --normalized" in str(
        caught.value
    )
    if "%" not in str(given):
        assert len(_read(**cast("Any", {**given, "normalized": True}))) == 1


def test_pixels_near_the_corner_are_pixels() -> None:
    given = {"boxes": ["0,0,2,1"], "points": ["0,0", "1,1", "1.5,0.5"], "scribbles": ["0,0,1,1"]}
    assert len(_read(**cast("Any", given))) == 5


def test_normalized_numbers_are_fractions_of_the_sides() -> None:
    assert _read(
        normalized=True,
        boxes=["0.25,0.5,0.75,1"],
        points=["0.5,0.5", "1,1"],
        scribbles=["0,0,0.5,0.25@7"],
    ) == (
        Box(50, 60, 150, 120),
        Point(100, 60),
        Point(199.5, 119.5),
        Scribble(((0, 0), (100, 30)), 7),
    )
    for wrong in ({"boxes": ["10,10,50,50"]}, {"points": ["-0.1,0.5"]}):
        with pytest.raises(GeometryError, match=r"fractions .* expected numbers of 0 to 1"):
            _read(normalized=True, **wrong)
