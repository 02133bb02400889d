import pytest

from deixis.language import named_sides


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("Where is the star in the top left?", ((1, -1), (0, -1))),
        ("the Lower right-hand corner", ((1, 1), (0, 1))),
        ("the star left of the square", ()),
        ("the second star from the left", ()),
        ("the leftover cup", ()),
        ("", ()),
    ],
)
def test_sides_of_the_image_are_found_and_sides_of_things_are_not(
    text: str, sides: tuple[tuple[int, int], ...]
) -> None:
    assert named_sides(text) == sides
