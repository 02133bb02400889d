"""Regions stand in the question where they are meant."""

import pytest

from deixis.cli.regions import place_regions
from deixis.errors import PromptError
from deixis.geometry import Box, Point

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
