"""Depth maps."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32

from deixis.errors import GeometryError
from deixis.geometry.checks import checks_itself, described, shown
from deixis.geometry.size import ImageSize

DepthKind = Literal["metric", "relative"]


@checks_itself
@dataclass(frozen=True, slots=True, eq=False)
class DepthMap:
    """The distance of each pixel: larger is farther, 0 is unknown.

    ``metric`` values are metres; ``relative`` values only order the pixels of one image. The array is a
    read-only copy.

    Raises:
        GeometryError: The values are not a float32 image, not finite or negative, or the kind is
            unknown.
    """

    values: Float32[np.ndarray, "height width"]
    kind: DepthKind

    def __post_init__(self) -> None:
        if self.kind not in ("metric", "relative"):
            raise GeometryError(f"depth map: expected metric or relative, got {shown(self.kind)}")
        values: object = self.values
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.ndim != 2:
            raise GeometryError(
                f"depth map: expected float32 [height width], got {described(values)}"
            )
        ImageSize(*values.shape).check_area()
        # Minimum and maximum reveal NaN, infinities and negative values in two passes.
        lowest, highest = float(values.min()), float(values.max())
        if not 0 <= lowest <= highest < np.inf:
            raise GeometryError(
                f"depth map: expected finite values of 0 or more, got {lowest} to {highest}"
            )
        kept = np.array(values, order="C")
        kept.flags.writeable = False
        object.__setattr__(self, "values", kept)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DepthMap)
            and self.kind == other.kind
            and np.array_equal(self.values, other.values)
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.values.shape, (self.values + 0).tobytes()))

    def __repr__(self) -> str:
        return f"DepthMap({self.size}, {self.kind})"

    @property
    def size(self) -> ImageSize:
        """Size of the image of the map."""
        return ImageSize(*self.values.shape)

    @property
    def known(self) -> Bool[np.ndarray, "height width"]:
        """True for pixels with a depth."""
        known: Bool[np.ndarray, "height width"] = self.values > 0
        return known
