import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from deixis.errors import GeometryError
from deixis.geometry import ImageSize, Mask

SIZE = ImageSize(3, 4)


@st.composite
def drawn_masks(draw: st.DrawFn) -> Mask:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    array = generator.random((height, width)) < share
    grow = draw(st.sampled_from([1, 1, 13]))
    return Mask(array.repeat(grow, axis=0).repeat(grow, axis=1))


@settings(max_examples=40, deadline=None)
@given(drawn_masks())
def test_run_lengths_are_those_of_pycocotools(mask: Mask) -> None:
    expected = coco.encode(np.asfortranarray(mask.array.astype(np.uint8)))
    rle = mask.to_coco()
    assert rle == {"size": list(mask.size), "counts": expected["counts"].decode("ascii")}
    plain = {"size": list(mask.size), "counts": mask.to_rle()}
    assert coco.frPyObjects(plain, *mask.size)["counts"] == expected["counts"]
    assert mask.to_coco(compressed=False) == plain


@settings(max_examples=40, deadline=None)
@given(drawn_masks())
def test_run_lengths_decode_to_the_same_mask(mask: Mask) -> None:
    compressed = mask.to_coco()
    assert Mask.from_rle(mask.to_rle(), mask.size) == mask
    assert Mask.from_rle(np.array(mask.to_rle(), np.uint32), mask.size) == mask
    assert Mask.from_coco(compressed, size=mask.size) == mask
    assert Mask.from_coco(mask.to_coco(compressed=False)) == mask
    assert Mask.from_coco({**compressed, "counts": str(compressed["counts"]).encode()}) == mask


def test_many_runs_decode_like_few() -> None:
    array = np.random.default_rng(0).random((120, 100)) < 0.5
    mask = Mask(array)
    counts = mask.to_rle()
    assert len(counts) > 4000
    assert Mask.from_rle(counts, mask.size) == mask


def test_empty_runs_are_allowed_anywhere() -> None:
    expected = Mask.from_rle([0, 4, 5, 3], SIZE)
    assert Mask.from_rle([0, 2, 0, 2, 5, 3, 0], SIZE) == expected
    assert Mask.from_rle([0, 2, 0, 2, 5, 3, 0, 0], SIZE) == expected
    many = [0, 1, 0, 1] * 2500
    assert Mask.from_rle(many, ImageSize(50, 100)).area == 5000


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([11], "expected a sum of 12 for a 4x3 mask, got 11"),
        ([13], "expected a sum of 12 for a 4x3 mask, got 13 or more"),
        ([6, 7], "expected a sum of 12 for a 4x3 mask, got 13"),
        ([20, -8], "expected 0 or more, got -8"),
        ([2**62, 2**62, 2**62, 2**62], "expected a sum of 12"),
        ([2**63, 2**63], "expected a sum of 12"),
        ([10**30, 12], "expected a list of integers"),
        ([10**5000, 0.5], "expected a list of integers, got list that is too long to show"),
        ([], "expected a list of integers"),
        ([6.0, 6.0], "expected a list of integers"),
        ([True, 11], "expected integers, got a bool"),
        (["6", "6"], "expected a list of integers"),
        ([None, 12], "expected a list of integers"),
        ([[6, 6]], "expected a list of integers"),
        ([6, [6]], r"expected a list of integers, got \[6, \[6\]\]"),
        (12, "expected a list of integers, got 12"),
        (None, "expected a list of integers, got None"),
        (np.zeros((2, 2), np.int64), "expected a list of integers"),
    ],
)
def test_damaged_counts_are_refused(counts: object, message: str) -> None:
    with pytest.raises(GeometryError, match=f"RLE counts: {message}"):
        Mask.from_coco({"size": [3, 4], "counts": counts})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "RLE string: expected run lengths, got an empty string"),
        (b"", "RLE string: expected run lengths, got an empty string"),
        ("<é", "expected characters '0' to 'o', got 'é' at 1"),
        ("\ud800", "expected characters '0' to 'o', got"),
        ("<\x00", r"expected characters '0' to 'o', got b'\\x00' at 1"),
        ("/", "expected characters '0' to 'o', got b'/' at 0"),
        ("p", "expected characters '0' to 'o', got b'p' at 0"),
        ("o", "RLE string of 1 characters: the last number is cut"),
        ("<o", "RLE string of 2 characters: the last number is cut"),
        ("PPPPPP0", "expected numbers of at most 6 characters, got one of 7"),
        ("O=", "RLE counts: expected 0 or more, got -1"),
        ("ooooo?", "RLE counts: expected a sum of 12"),
    ],
)
def test_damaged_strings_are_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Mask.from_coco({"size": [3, 4], "counts": text})


@pytest.mark.parametrize("size", [[100_000, 100_000], [2**24, 2**24], [-3, -4], [3, 0], [3], None])
@pytest.mark.parametrize("counts", [[10**10], "0" * 100])
def test_a_hostile_size_is_refused_before_it_costs_memory(size: object, counts: object) -> None:
    with pytest.raises(GeometryError, match=r"size|image"):
        Mask.from_coco({"size": size, "counts": counts})


@pytest.mark.parametrize("rle", [None, [], "x", {}, {"size": [3, 4]}, {"counts": [12]}])
def test_what_is_no_run_length_object_is_refused(rle: object) -> None:
    with pytest.raises(GeometryError, match="RLE: expected an object with size and counts, got"):
        Mask.from_coco(rle)


def test_run_lengths_of_another_image_are_refused() -> None:
    with pytest.raises(GeometryError, match="RLE: expected the image's size 3x4, got 4x3"):
        Mask.from_coco({"size": [3, 4], "counts": [12]}, size=ImageSize(4, 3))


@settings(max_examples=80, deadline=None)
@given(drawn_masks(), st.data())
def test_a_mutated_string_gives_a_mask_or_an_error(mask: Mask, data: st.DataObject) -> None:
    text = bytearray(str(mask.to_coco()["counts"]).encode("ascii"))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        change = data.draw(st.sampled_from(["cut", "insert", "replace"]))
        if change == "cut":
            del text[place:]
        else:
            stop = place + (change == "replace")
            text[place:stop] = bytes([data.draw(st.integers(40, 120))])
    rle = {"size": list(mask.size), "counts": bytes(text)}
    try:
        decoded = Mask.from_coco(rle)
    except GeometryError:
        return
    assert decoded.size == mask.size
    # Twice, so that a read of unset memory would show.
    assert Mask.from_coco(rle) == decoded
    assert Mask.from_rle(decoded.to_rle(), decoded.size) == decoded


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-3, 20), max_size=8))
def test_a_list_of_counts_gives_a_mask_or_an_error(counts: list[int]) -> None:
    try:
        mask = Mask.from_coco({"size": [3, 4], "counts": counts})
    except GeometryError:
        assert sum(counts) != 12 or min(counts) < 0
    else:
        assert mask.area == sum(counts[1::2])
