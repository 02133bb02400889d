import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deixis.errors import NotationError
from deixis.geometry import Box, ImageSize, Letterbox, Mask, Point
from deixis.notation import Coordinates, Decoded, Marker, join_pieces, notation_named, split_markers
from deixis.structures import GroundedPhrase, GroundedText, Problem, Reference, Unit, UnitGroup

SIZE = ImageSize(100, 200)


def read(raw: str, notation: Coordinates | None = None, size: ImageSize = SIZE) -> Decoded:
    notation = notation or Coordinates()
    return notation.decode(split_markers(raw, notation.spelling), size)


def codes(decoded: Decoded) -> list[str]:
    return [problem.code for problem in decoded.problems]


def boxes(*units: Unit | None) -> UnitGroup:
    return UnitGroup(("box",), tuple(Reference((unit,)) for unit in units))


def dog(*groups: UnitGroup) -> GroundedText:
    return GroundedText("a dog.", (GroundedPhrase("dog", 2, 5, groups),))


def test_a_box_is_a_fraction_of_the_padded_square() -> None:
    encoded = Coordinates().encode(dog(boxes(Box(20, 0, 120, 50), Box(0, 50, 200, 100))), SIZE)
    assert join_pieces(encoded.pieces, Coordinates().spelling) == (
        "a <ref>dog</ref>[0.100,0.250,0.600,0.500;0.000,0.500,1.000,0.750]."
    )
    assert encoded.references == ()


@pytest.mark.parametrize("size", [ImageSize(37, 61), ImageSize(61, 37), ImageSize(50, 50)])
def test_the_square_is_the_one_that_images_are_padded_to(size: ImageSize) -> None:
    box = Box(3, 5, 30, 20)
    raw = join_pieces(Coordinates().encode(dog(boxes(box)), size).pieces, Coordinates().spelling)
    numbers = [float(number) for number in raw[raw.index("[") + 1 : raw.index("]")].split(",")]
    on_square = Letterbox(size, 1000).apply_boxes(box.as_array()[None])[0]
    assert numbers == pytest.approx((on_square / 1000).tolist(), abs=0.0005001)


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    shares=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    whole=st.booleans(),
)
def test_the_padding_of_pinks_public_code_gives_its_numbers_to_the_digit(
    size: tuple[int, int],
    shares: list[float],
    *,
    whole: bool,
) -> None:
    height, width = size
    extents = (width, height, width, height)
    values = [share * extent for share, extent in zip(shares, extents, strict=True)]
    values = [float(round(value)) for value in values] if whole else values
    x1, x2 = sorted(values[::2])
    y1, y2 = sorted(values[1::2])
    side = max(size)
    # whole pixels before the image, as where it is pasted into a square
    left, top = (side - width) // 2, (side - height) // 2
    pads = (left, top, left, top)
    expected = [f"{(v + pad) / side:.3f}" for v, pad in zip((x1, y1, x2, y2), pads, strict=True)]
    # thinner boxes get one step, which they need to be boxes
    assume(x1 < x2 and y1 < y2 and expected[0] < expected[2] and expected[1] < expected[3])
    notation, extent = Coordinates(marks=False, padding="floor"), ImageSize(height, width)
    (piece,) = notation.write_region(Box(x1, y1, x2, y2), extent)
    assert piece == f"[{','.join(expected)}]"
    read = notation.read_region(str(piece), extent)
    assert isinstance(read, Box)
    assert read.as_array() == pytest.approx([x1, y1, x2, y2], abs=0.5 * side / 1000 + 1e-6)


def test_the_named_notation_of_pinks_padding_moves_odd_images_by_half_a_pixel() -> None:
    half, floor = notation_named("coordinates"), notation_named("coordinates_floor")
    assert isinstance(half, Coordinates)
    assert isinstance(floor, Coordinates)
    box = Box(0, 0, 5, 10)
    for size, same in ((ImageSize(10, 5), False), (ImageSize(10, 4), True)):
        written = [one.write_region(box.clip(size), size) for one in (half, floor)]
        assert (written[0] == written[1]) == same
    assert floor.write_region(box, ImageSize(10, 5)) == ("[0.200,0.000,0.700,1.000]",)
    assert half.write_region(box, ImageSize(10, 5)) == ("[0.250,0.000,0.750,1.000]",)


def test_the_form_of_pink_has_no_marks_around_phrases() -> None:
    notation = Coordinates(marks=False)
    text = dog(boxes(Box(20, 0, 120, 50)), UnitGroup(("point",), (Reference((Point(100, 50),)),)))
    encoded = notation.encode(text, SIZE)
    assert encoded.pieces == ("a ", "dog", " [0.100,0.250,0.600,0.500][0.500,0.500]", ".")
    decoded = notation.decode(encoded.pieces, SIZE)
    assert decoded.text.text == text.text
    assert decoded.text.phrases == (GroundedPhrase("", 5, 5, text.phrases[0].groups),)
    assert decoded.problems == ()


def test_an_answer_may_be_coordinates_alone() -> None:
    notation = Coordinates(marks=False)
    text = GroundedText("", (GroundedPhrase("", 0, 0, (boxes(Box(0, 0, 100, 100)),)),))
    encoded = notation.encode(text, SIZE)
    assert encoded.pieces == ("[0.000,0.250,0.500,0.750]",)
    assert notation.decode(encoded.pieces, SIZE).text == text


@pytest.mark.parametrize(
    ("raw", "box"),
    [
        ("[0.1,0.25,0.6,0.5]", Box(20, 0, 120, 50)),
        ("[ 0.1, 0.25 ,0.6,\n0.5 ]", Box(20, 0, 120, 50)),
        ("[1e-05,.25,6E-1,+0.5]", Box(0, 0, 120, 50)),
        ("[\uff10.\uff11,0.25,0.6,0.5]", Box(20, 0, 120, 50)),
        ("[0.10004,0.25,0.6,0.5]", Box(20, 0, 120, 50)),
        ("[1.,0.25,0.6,0.5]", Box(120, 0, 200, 50)),
    ],
)
def test_numbers_are_read_however_they_are_written(raw: str, box: Box) -> None:
    (found,) = read(f"<ref>dog</ref> {raw}").text.phrases[0].boxes
    assert found.as_array() == pytest.approx(box.as_array())


@pytest.mark.parametrize(
    ("raw", "found", "num_boxes"),
    [
        ("[-0.1,0.3,0.6,0.5]", ["out_of_range"], 1),
        ("[0.1,0.1,0.6,1e999]", ["out_of_range", "out_of_range"], 1),
        ("[0.6,0.5,0.1,0.3]", ["unordered_box"], 1),
        ("[0.1,0.3,0.1,0.5]", ["empty_box"], 0),
        ("[120,130,180,190]", ["out_of_range"] * 4 + ["empty_box"], 0),
    ],
)
def test_unsound_boxes_are_mended_or_left_out(raw: str, found: list[str], num_boxes: int) -> None:
    decoded = read(f"a <ref>dog</ref>{raw}.")
    assert codes(decoded) == found
    assert decoded.text.text == "a dog."
    assert len(decoded.text.phrases[0].boxes) == num_boxes
    for box in decoded.text.phrases[0].boxes:
        box.check_inside(SIZE)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ("see [1] and [x] and []", []),
        ("[0.1,0.2,0.3]", ["wrong_count"]),
        ("[0.1,0.2;0.1,0.2,0.3,0.4]", ["wrong_count"]),
        ("[0.1,0.2,0.3,0.4.5]", ["invalid_number"]),
        ("[0.1,,0.3,0.4]", ["invalid_number"]),
        (f"[0.1,{'1' * 5000}]", ["invalid_number"]),
    ],
)
def test_brackets_that_hold_no_coordinates_stay_words(raw: str, found: list[str]) -> None:
    decoded = read(raw)
    assert decoded.text == GroundedText(raw)
    assert codes(decoded) == found


FOREIGN = [
    *("[0.1 0.2 0.5 0.6]", "[0.1 0.2 0.5 0.6; 0.2 0.2 0.5 0.6]", "[12.5 3 40 50.0]"),
    *("(0.1, 0.2, 0.5, 0.6)", "(0.1,0.2),(0.5,0.6)", "( .1 , 0.2 ) ( 1 , 0.60 )"),
    *('<points x1="1.5" y1="2">', "<|det|>", "<12><345><67><999>", "<quad>"),
]


@pytest.mark.parametrize("raw", FOREIGN)
@pytest.mark.parametrize("marks", [False, True])
def test_a_box_of_another_notation_is_named_and_stays_in_the_text(raw: str, *, marks: bool) -> None:
    answer = f"the dog {raw} runs"
    decoded = read(answer, Coordinates(marks=marks))
    assert decoded.text == GroundedText(answer)
    (problem,) = decoded.problems
    assert problem.code == "foreign_notation"
    assert problem.position == len("the dog ")
    assert problem.message.startswith(f"{raw[:80]!r} looks like coordinates of another notation")


@pytest.mark.parametrize(
    ("raw", "tags"),
    [
        ("<box>(123,456),(789,1000)</box>", 2),
        ("<|box_start|>(1,2),(3,4)<|box_end|>", 2),
        ("<loc_12><loc_34><loc_56><loc_78>", 4),
        ("<loc0012><loc0034><loc0056><loc0078>", 4),
        ("<patch_index_0044><patch_index_0863>", 2),
        ("<BBOX>0.1 0.2 0.3 0.4</BBOX>", 2),
        ("<box>(0.1,0.2),(0.3,0.4)</box>", 3),
    ],
)
def test_tags_of_another_notation_are_named(raw: str, tags: int) -> None:
    decoded = read(raw)
    assert decoded.text.text == raw
    assert codes(decoded) == ["foreign_notation"] * tags


@pytest.mark.parametrize(
    "raw",
    [
        *(
            "in 1999 (or 2001, 2002, 2003, 2004)",
            "[1] [2] [3]",
            "[1 2 3 4]",
            "[2019 2020 2021 2022]",
        ),
        *("(1, 2, 3, 4)", "(1,2),(3,4)", "f(0.5, 0.2)", "a 95% interval [0.45 0.67]", "(0.5)"),
        *("a <b>box</b>", "<boxer>", "x < 3 > y", "<1><2>", "a box (0.5 m, 0.2 m)", "1. 2. 3. 4."),
        *("scores (10.5, 20.5, 30.5, 40.5)", "[about 0.1 0.2 0.3]", "the box <locally> made"),
    ],
)
@pytest.mark.parametrize("marks", [False, True])
def test_ordinary_text_is_no_box_of_another_notation(raw: str, *, marks: bool) -> None:
    decoded = read(raw, Coordinates(marks=marks))
    assert decoded.text == GroundedText(raw)
    assert codes(decoded) == []


def test_coordinates_after_words_in_brackets_are_still_read() -> None:
    decoded = read("<ref>dog</ref>[1] [0.1,0.3]")
    assert decoded.text.text == "dog[1]"
    assert [(each.text, len(each.groups)) for each in decoded.text.phrases] == [("dog", 0), ("", 1)]
    assert decoded.problems == (
        Problem("group_without_phrase", "coordinates follow no phrase", 18),
    )


def test_empty_brackets_after_a_phrase_say_that_nothing_is_there() -> None:
    notation = Coordinates()
    encoded = notation.encode(dog(boxes()), SIZE)
    assert join_pieces(encoded.pieces, notation.spelling) == "a <ref>dog</ref>[]."
    assert notation.decode(encoded.pieces, SIZE).text == dog(boxes())


def test_the_marks_of_tamp_around_boxes_are_read() -> None:
    decoded = read("<ref>dog</ref><loc>[0.1,0.3,0.6,0.5]</loc>.")
    assert decoded.text.text == "dog."
    assert len(decoded.text.phrases[0].boxes) == 1
    assert decoded.problems == ()


@pytest.mark.parametrize(
    ("raw", "text", "found"),
    [
        ("<ref>dog</ref>[0.1,0.", "dog", ["truncated"]),
        ("a dog [0.1", "a dog", ["truncated"]),
        ("a dog [3", "a dog [3", []),
        ("a dog [no.", "a dog [no.", []),
        ("a <ref>dog", "a dog", ["unclosed_phrase", "truncated"]),
        ("a <ref>dog [0.1,", "a dog", ["truncated", "unclosed_phrase"]),
        ("dog</ref>", "dog", ["unopened_phrase"]),
        ("<ref>" * 9 + "x [0.1,0.3]" + "</ref>" * 9, "x",
         ["too_deep", "group_without_phrase", "too_deep"]),
    ],
)  # fmt: skip
def test_what_is_sound_of_a_text_with_problems_is_kept(
    raw: str, text: str, found: list[str]
) -> None:
    decoded = read(raw)
    assert decoded.text.text == text
    assert codes(decoded) == found


def test_a_marker_of_another_notation_is_dropped_and_named() -> None:
    decoded = Coordinates().decode(["a", Marker.REFERENCE], SIZE)
    assert decoded.text.text == "a"
    assert decoded.problems == (Problem("unexpected_marker", "<REF> does not belong here", 1),)


def test_references_above_the_limit_are_counted() -> None:
    decoded = read("<ref>x</ref>[" + ";".join(["0.1,0.3"] * 9) + "]", Coordinates(max_references=4))
    assert len(decoded.text.phrases[0].references) == 4
    assert decoded.problems == (
        Problem("too_many_references", "9 references, the first 4 are kept"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (dog(UnitGroup(("mask",), ())), r"not the unit types \('mask',\)"),
        (dog(boxes(None)), "'dog': a reference has no unit to write"),
        (dog(boxes(*[Box(1, 1, 9, 9)] * 3)), "has 3 references, the limit is 2"),
        (dog(UnitGroup(("point",), ())), "a group of nothing cannot be written"),
        (GroundedText("at [0.1,0.2]"), "'at .0.1,0.2.': its words would be read as coordinates"),
        (GroundedText("at [0.1,"), "would be read as coordinates"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(text: GroundedText, message: str) -> None:
    with pytest.raises(NotationError, match=message):
        Coordinates(max_references=2).encode(text, SIZE)


@pytest.mark.parametrize("size", [SIZE, ImageSize(1, 5000), ImageSize(5000, 1), ImageSize(1, 1)])
@pytest.mark.parametrize("corner", [0.0, 0.5, 0.99])
def test_a_thin_box_keeps_an_extent(size: ImageSize, corner: float) -> None:
    x, y = size.width * corner, size.height * corner
    box = Box(x, y, x + size.width * 1e-5, y + size.height * 1e-5)
    text = dog(boxes(box))
    decoded = Coordinates().decode(Coordinates().encode(text, size).pieces, size)
    (found,) = decoded.text.phrases[0].boxes
    found.check_inside(size)
    assert decoded.problems == ()
    again = Coordinates().decode(Coordinates().encode(decoded.text, size).pieces, size)
    assert again.text == decoded.text


def test_a_box_that_leaves_the_image_is_clipped() -> None:
    decoded = Coordinates().decode(
        Coordinates().encode(dog(boxes(Box(-10, -10, 400, 300))), SIZE).pieces, SIZE
    )
    assert decoded.text.phrases[0].boxes == (Box(0, 0, 200, 100),)


def test_an_answer_is_adapted_to_boxes_and_points() -> None:
    mask = Mask.from_box(Box(20, 0, 120, 50), SIZE)
    empty = Mask.from_rle([SIZE.area], SIZE)
    point = UnitGroup(("point",), (Reference((Point(1, 1),), 0.5),))
    text = dog(
        UnitGroup(("mask",), (Reference((mask,)), Reference((empty,)))),
        UnitGroup(("box", "mask"), (Reference((Box(20, 0, 120, 50), mask)),)),
        UnitGroup(("depth",), (Reference((None,)),)),
        UnitGroup(("box",), ()),
        UnitGroup(("point",), ()),
        point,
    )
    found = boxes(Box(20, 0, 120, 50))
    assert Coordinates().adapt(text) == dog(found, boxes(), point)
    assert Coordinates(marks=False).adapt(text) == dog(found, point)
    assert Coordinates().latents == frozenset()


def test_a_point_beyond_a_thin_image_stays_where_it_was_brought() -> None:
    size = ImageSize(1, 5000)
    decoded = read("<ref>dog</ref>[0.5,9]", size=size)
    assert codes(decoded) == ["out_of_range"]
    again = Coordinates().decode(Coordinates().encode(decoded.text, size).pieces, size)
    assert again.text == decoded.text
