"""Run lengths of masks in COCO's two forms, checked before memory is allocated.

Pixels are numbered down the columns. Counts alternate between clear and set runs, the first
clear (0 where the first pixel is set). The compressed form writes each count, from the fourth
on as a difference to the one two before it, in base 32 with a sign bit, low digits first, as
characters "0" to "o" (pycocotools, ``maskApi.c``, ``rleToString``).
"""

import numpy as np
from jaxtyping import Bool, Int64

from deixis.errors import GeometryError
from deixis.geometry.checks import shown
from deixis.geometry.size import ImageSize

# A count is at most 2**28, so a difference needs 30 bits with its sign: 6 digits of 5 bits.
_MOST_DIGITS = 6
_DIGIT_LIMITS = 1 << (5 * np.arange(1, _MOST_DIGITS) - 1)
_DIGIT_SHIFTS = 5 * np.arange(_MOST_DIGITS)

# Up to this many runs are filled one by one, which is faster; more are filled in passes over all pixels.
_MANY_RUNS = 2000


def checked_counts(counts: object, size: ImageSize) -> Int64[np.ndarray, " runs"]:
    """Check that run lengths fill ``size`` exactly, and return them as an array.

    Raises:
        GeometryError: A run length is not an integer or is negative, or their sum is not the area.
    """
    size.check_area()
    if isinstance(counts, list | tuple):
        if any(isinstance(count, bool) for count in counts):
            raise GeometryError("RLE counts: expected integers, got a bool")
        try:
            runs = np.asarray(counts)
        except ValueError:
            raise GeometryError(
                f"RLE counts: expected a list of integers, got {shown(counts)}"
            ) from None
    elif isinstance(counts, np.ndarray):
        runs = counts
    else:
        raise GeometryError(f"RLE counts: expected a list of integers, got {shown(counts)}")
    if runs.ndim != 1 or runs.size == 0 or runs.dtype.kind not in "iu":
        raise GeometryError(f"RLE counts: expected a list of integers, got {shown(counts)}")
    lowest, highest = int(runs.min()), int(runs.max())
    if lowest < 0:
        raise GeometryError(f"RLE counts: expected 0 or more, got {lowest}")
    # Check the largest count first, so that the sum cannot overflow.
    total = highest if highest > size.area else int(runs.sum(dtype=np.int64))
    if total != size.area:
        raise GeometryError(
            f"RLE counts: expected a sum of {size.area} for a {size} mask, got {total}"
            f"{' or more' if highest > size.area else ''}"
        )
    return runs.astype(np.int64, copy=False)


def encode_counts(array: Bool[np.ndarray, "height width"]) -> Int64[np.ndarray, " runs"]:
    """Return the run lengths of a mask."""
    height = array.shape[0]
    columns = np.flatnonzero(array.any(axis=0))
    if columns.size == 0:
        return np.array([array.size])
    # Only the columns from the first to the last set pixel are laid out.
    first, last = int(columns[0]), int(columns[-1]) + 1
    pixels = np.zeros((last - first) * height + 2, np.bool_)
    pixels[1:-1].reshape(last - first, height)[:] = array[:, first:last].T
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + first * height
    bounds = np.concatenate(([0], changes, [array.size]))
    runs = np.diff(bounds)
    return runs if runs[-1] else runs[:-1]


def decode_counts(
    counts: Int64[np.ndarray, " runs"], size: ImageSize
) -> Bool[np.ndarray, "height width"]:
    """Return the mask with the given run lengths, which must be checked."""
    bounds = np.cumsum(counts)
    starts, ends = bounds[:-1:2], bounds[1::2]
    return fill_runs(starts, ends, size)


def fill_runs(
    starts: Int64[np.ndarray, " runs"], ends: Int64[np.ndarray, " runs"], size: ImageSize
) -> Bool[np.ndarray, "height width"]:
    """Return the mask with pixels set from each start to before its end, counted down the columns."""
    height, width = size
    array = np.zeros((height, width), np.bool_)
    longer = ends > starts
    starts, ends = starts[longer], ends[longer]
    if starts.size == 0:
        return array
    first, last = int(starts[0]) // height, (int(ends[-1]) - 1) // height + 1
    pixels = np.zeros((last - first) * height, np.bool_)
    starts, ends = starts - first * height, ends - first * height
    if starts.size <= _MANY_RUNS:
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            pixels[start:end] = True
    else:
        # A run may begin where the previous one ends, so two steps may share a position.
        steps = np.zeros(pixels.size + 1, np.int8)
        steps[starts] += 1
        steps[ends] -= 1
        np.cumsum(steps[:-1], out=pixels.view(np.int8))
    array[:, first:last] = pixels.reshape(last - first, height).T
    return array


def compress_counts(counts: Int64[np.ndarray, " runs"]) -> str:
    """Return run lengths in COCO's compressed form."""
    differences = counts.copy()
    differences[3:] -= counts[1:-2]
    magnitudes = np.where(differences < 0, ~differences, differences)
    lengths = 1 + (magnitudes[:, None] >= _DIGIT_LIMITS).sum(axis=1)
    positions = np.arange(int(lengths.max()))
    digits = (differences[:, None] >> _DIGIT_SHIFTS[: len(positions)]) & 31
    more = positions < lengths[:, None] - 1
    characters = (digits + (more << 5) + 48).astype(np.uint8)
    return bytes(characters[positions < lengths[:, None]]).decode("ascii")


def decompress_counts(text: str | bytes) -> Int64[np.ndarray, " runs"]:
    """Return the run lengths in COCO's compressed form; signs and sum are not checked.

    Raises:
        GeometryError: A character is not in the alphabet, or the last number is truncated.
    """
    try:
        data = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise GeometryError(
            f"RLE string: expected characters '0' to 'o', got {shown(error.object[error.start])} "
            f"at {error.start}"
        ) from None
    characters = np.frombuffer(data, np.uint8)
    if characters.size == 0:
        raise GeometryError("RLE string: expected run lengths, got an empty string")
    codes = characters.astype(np.int64) - 48
    wrong = (codes < 0) | (codes > 63)
    if wrong.any():
        position = int(wrong.argmax())
        raise GeometryError(
            f"RLE string: expected characters '0' to 'o', got {data[position : position + 1]!r} "
            f"at {position}"
        )
    last = np.flatnonzero(codes < 32)
    if last.size == 0 or last[-1] != codes.size - 1:
        raise GeometryError(f"RLE string of {codes.size} characters: the last number is cut")
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > _MOST_DIGITS:
        raise GeometryError(
            f"RLE string: expected numbers of at most {_MOST_DIGITS} characters, "
            f"got one of {int(lengths.max())}"
        )
    places = np.arange(codes.size) - np.repeat(first, lengths)
    values = np.add.reduceat((codes & 31) << (5 * places), first)
    values -= ((codes[last] & 16) != 0).astype(np.int64) << (5 * lengths)
    # Counts 1, 3, 5, ... and 2, 4, 6, ... are two chains of differences; count 0 is in neither.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
