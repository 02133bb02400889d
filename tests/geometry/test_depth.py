import numpy as np
import pytest

from deixis.errors import GeometryError
from deixis.geometry import DepthMap, ImageSize
from deixis.geometry.depth import DepthKind


def test_a_depth_map_keeps_a_read_only_copy() -> None:
    values = np.ones((2, 3), np.float32)
    depth = DepthMap(values, "metric")
    values[0, 0] = 7
    assert depth.values[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        depth.values[0, 0] = 7


def test_zero_is_unknown() -> None:
    depth = DepthMap(np.array([[0, 1]], np.float32), "relative")
    assert depth.known.tolist() == [[False, True]]
    assert depth.size == ImageSize(1, 2)
    assert repr(depth) == "DepthMap(2x1, relative)"


def test_depth_maps_are_equal_by_content() -> None:
    values = np.ones((2, 3), np.float32)
    maps = [DepthMap(values, "metric"), DepthMap(values, "metric"), DepthMap(values, "relative")]
    assert maps[0] == maps[1]
    assert len({*maps, DepthMap(values * 2, "metric")}) == 3
    assert maps[0] != values.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1])
def test_values_that_are_no_depth_are_refused(value: float) -> None:
    values = np.ones((2, 3), np.float32)
    values[1, 1] = value
    with pytest.raises(GeometryError, match="depth map: expected finite values of 0 or more, got"):
        DepthMap(values, "metric")


@pytest.mark.parametrize("values", [np.ones((2, 3)), np.ones(3, np.float32), [[1.0]], None])
def test_what_is_no_float_image_is_refused(values: np.ndarray) -> None:
    with pytest.raises(GeometryError, match=r"depth map: expected float32 \[height width\], got"):
        DepthMap(values, "metric")


@pytest.mark.parametrize("kind", ["inverse", None, ["metric"]])
def test_an_unknown_kind_is_refused(kind: DepthKind) -> None:
    with pytest.raises(GeometryError, match="depth map: expected metric or relative, got"):
        DepthMap(np.ones((2, 3), np.float32), kind)
