"""The size of an image."""

from collections.abc import Iterator
from dataclasses import dataclass

from deixis.errors import GeometryError
from deixis.geometry.checks import AREA_LIMIT, checked_side, checks_itself, shown


@checks_itself
@dataclass(frozen=True, slots=True)
class ImageSize:
    """Height and width in pixels; unpacks in that order.

    Pixel (row r, column c) covers x in [c, c + 1) and y in [r, r + 1); so x runs from 0 to
    ``width`` and y from 0 to ``height``. It prints as ``widthxheight``.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "height", checked_side(self.height, "image height"))
        object.__setattr__(self, "width", checked_side(self.width, "image width"))

    def __iter__(self) -> Iterator[int]:
        yield self.height
        yield self.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def area(self) -> int:
        """The number of pixels."""
        return self.height * self.width

    def check_area(self) -> None:
        """Check that an array of this size may be allocated.

        Raises:
            GeometryError: The size has more than 2**28 pixels.
        """
        if self.area > AREA_LIMIT:
            raise GeometryError(
                f"size {self}: expected at most {AREA_LIMIT} pixels, got {self.area}"
            )

    @classmethod
    def from_annotation(cls, values: object) -> "ImageSize":
        """Read ``[height, width]``, as in COCO run lengths.

        Raises:
            GeometryError: ``values`` is not a list of two positive integers.
        """
        if not isinstance(values, list | tuple) or len(values) != 2:
            raise GeometryError(f"size: expected [height, width], got {shown(values)}")
        return cls(*values)
