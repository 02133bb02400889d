import pytest

from deixis.language import named_sides


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("Where is the star in the top left?", ((1, -1), (0, -1))),
        ("the Lower right-hand corner", ((1, 1), (0, 1))),
        ("the circle on the left", ((0, -1),)),
        ("Upper right star?", ((1, -1), (0, 1))),
        ("the star left of the circle", ()),
        ("the star to the right of the circle", ()),
        ("second from the left", ()),
        ("the leftmost star", ()),
        ("the left-hand star", ((0, -1),)),
        ("the leftover cup", ()),
        ("", ()),
    ],
)
def test_sides_of_the_image_are_found_and_sides_of_things_are_not(
    text: str, sides: tuple[tuple[int, int], ...]
) -> None:
    assert named_sides(text) == sides
