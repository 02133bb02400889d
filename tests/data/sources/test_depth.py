"""Depth maps beside images."""

from pathlib import Path

import numpy as np
import pytest
from data.sources.pictures import levels, picture
from data.sources.reading import codes, collect, samples, write_json

from deixis.data.scenes import draw_scene
from deixis.data.scenes.export import write_scenes
from deixis.data.sources.depth import open_depth, open_hrwsi, open_kitti, open_nyu
from deixis.errors import AnnotationError


def _ramp(width: int = 64, height: int = 48) -> np.ndarray:
    return np.arange(width * height, dtype=np.uint16).reshape(height, width)


def test_exported_depth_reads_back(tmp_path: Path) -> None:
    write_scenes(tmp_path, split="val", count=2, format="depth", seed=4)
    found = list(samples(open_depth(tmp_path, split="val")).values())
    assert len(found) == 2
    for index, sample in enumerate(found):
        scene = draw_scene(4, index, level="standard", split="val")
        assert sample.depth is not None
        assert sample.depth.kind == "metric"
        assert np.abs(sample.depth.values - scene.depth).max() <= 0.5 / 256 + 1e-6
        assert np.array_equal(sample.depth.known, scene.depth > 0)


def test_lists_of_kitti_are_metres_times_256(tmp_path: Path) -> None:
    lines = [
        "2011/image_02/data/1.png 2011/proj_depth/1.png 721.5377",
        "2011/image_02/data/2.png None 721.5377",
        "",
        "2011/image_02/data/3.png",
    ]
    (tmp_path / "eigen_test.txt").write_text("\n".join(lines))
    picture(tmp_path / "raw/2011/image_02/data/1.png")
    levels(tmp_path / "gt/2011/proj_depth/1.png", _ramp())
    source = open_kitti(
        tmp_path / "eigen_test.txt", images=tmp_path / "raw", depths=tmp_path / "gt"
    )
    readings = collect(source)
    assert codes(readings) == {"bad_record": 1}
    sample = readings["2011/image_02/data/1.png"].sample
    assert sample is not None
    assert sample.depth is not None
    assert sample.depth.values[4, 0] == 1.0
    assert not sample.depth.known[0, 0]


def test_the_selection_of_kitti_is_two_folders(tmp_path: Path) -> None:
    name = "2011_09_26_drive_0002_sync_{}_0000000005_image_02.png"
    picture(tmp_path / "image" / name.format("image"))
    levels(tmp_path / "groundtruth_depth" / name.format("groundtruth_depth"), _ramp())
    (sample,) = samples(open_kitti(tmp_path)).values()
    assert sample.depth is not None
    assert sample.depth.kind == "metric"


def test_nyu_is_in_millimetres(tmp_path: Path) -> None:
    line = "/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579"
    (tmp_path / "train.txt").write_text(line)
    picture(tmp_path / "kitchen_0028b" / "rgb_00045.jpg")
    levels(tmp_path / "kitchen_0028b" / "sync_depth_00045.png", _ramp())
    (sample,) = samples(open_nyu(tmp_path / "train.txt")).values()
    assert sample.depth is not None
    assert sample.depth.values[0, 50] == pytest.approx(0.05)


def test_disparities_are_turned_over(tmp_path: Path) -> None:
    root = tmp_path / "val"
    picture(root / "imgs" / "a.jpg")
    levels(root / "gts" / "a.png", (_ramp() % 200).astype(np.uint8))
    valid = np.full((48, 64), 255, np.uint8)
    valid[0] = 0
    levels(root / "valid_masks" / "a.png", valid)
    (sample,) = samples(open_hrwsi(tmp_path, split="val")).values()
    assert sample.depth is not None
    assert sample.depth.kind == "relative"
    values = sample.depth.values
    assert not values[0].any()
    assert values[2, 0] > values[2, 10] > 0
    assert values.max() <= 1


def test_hostile_pairs_are_quarantined(tmp_path: Path) -> None:
    pairs = [
        {"image": "a.jpg", "depth": "small.png"},
        {"image": "b.jpg", "depth": "cut.png"},
        {"image": "c.jpg", "depth": "../a.png"},
        {"image": "../d.jpg", "depth": "a.png"},
        {"image": "e.jpg", "depth": "colours.png"},
        {"image": "f.jpg"},
        {"image": "g.jpg", "depth": "a.png"},
        {"image": "g.jpg", "depth": "a.png"},
        {"image": "h.jpg", "depth": "a.png"},
        7,
    ]
    write_json(tmp_path / "train.json", {"scale": 256, "pairs": pairs})
    for name in "abceg":
        picture(tmp_path / f"{name}.jpg")
    picture(tmp_path / "h.jpg", orientation=3)
    levels(tmp_path / "a.png", _ramp())
    levels(tmp_path / "small.png", _ramp(32, 48))
    data = levels(tmp_path / "cut.png", _ramp()).read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    levels(tmp_path / "colours.png", np.zeros((48, 64, 3), np.uint8))
    assert codes(collect(open_depth(tmp_path))) == {
        "size_mismatch": 1,
        "mask_damaged": 2,
        "path_escape": 2,
        "bad_record": 2,
        "duplicate_image": 1,
        "orientation_ambiguous": 1,
    }


def test_an_invalid_scale_is_refused(tmp_path: Path) -> None:
    for scale in (0, "256", None):
        write_json(tmp_path / "train.json", {"scale": scale, "pairs": []})
        with pytest.raises(AnnotationError, match="scale"):
            open_depth(tmp_path)
    with pytest.raises(AnnotationError, match="expected a list of pairs"):
        open_hrwsi(tmp_path)
