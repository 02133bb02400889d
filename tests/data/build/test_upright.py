import io
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from annotated import line, plan_of, write_lines
from PIL import Image

from deixis.data.build import BuiltDataset, build
from deixis.data.build.stored_images import image_bytes, image_name, stored_image
from deixis.data.build.upright import checked_sample
from deixis.data.sources import BadRecord
from deixis.data.sources.scenes import DrawnImage
from deixis.errors import ImageError
from deixis.geometry import Box, ImageSize, Mask, Orient
from deixis.processing.images import read_image
from deixis.structures import Instance, Sample

SIZE = ImageSize(40, 60)
CORNER = Box(2, 3, 14, 9)


def stored_turned(path: Path, orientation: int, size: ImageSize = SIZE) -> Path:
    """Write a picture whose red corner, in the stored frame, is `CORNER`."""
    pixels = np.full((*size, 3), 200, np.uint8)
    pixels[int(CORNER.y1) : int(CORNER.y2), int(CORNER.x1) : int(CORNER.x2)] = (255, 0, 0)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, format="PNG", exif=exif.tobytes())
    return path


def sample_of(path: Path, size: ImageSize, box: Box) -> Sample:
    return Sample("a", path, size, (Instance("corner", box, Mask.from_box(box, size)),))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("frame", ["raw", "upright", "square", "declared"])
def test_a_box_always_covers_the_same_pixels(tmp_path: Path, orientation: int, frame: str) -> None:
    size = ImageSize(50, 50) if frame in {"square", "declared"} else SIZE
    path = stored_turned(tmp_path / "a.png", orientation, size)
    orient = Orient(size, orientation)
    if frame == "upright":
        sample = sample_of(path, orient.target, orient.apply(CORNER))
    else:
        sample = sample_of(path, size, CORNER)
    try:
        found = checked_sample(
            sample,
            root=tmp_path,
            orientation="raw" if frame == "declared" else "auto",
            notes={},
        )
    except BadRecord as error:
        assert error.code == "orientation_ambiguous"  # noqa: PT017
        assert frame != "declared"
        assert orientation > 1
        # only where the size cannot tell
        assert frame == "square" or orientation in {2, 3, 4}
        return
    pixels = read_image(path).array
    assert found.size == ImageSize(*pixels.shape[:2])
    red = (pixels[..., 0] > 230) & (pixels[..., 1] < 60)
    instance = found.instances[0]
    assert instance.mask == Mask(red)
    assert instance.box == Mask(red).to_box()


def test_files_that_do_not_match_their_annotations_are_refused(tmp_path: Path) -> None:
    stored_turned(tmp_path / "a.png", 1)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    expected = {
        "a.png": "size_mismatch",
        "none.png": "image_missing",
        "empty.png": "image_empty",
        "text.png": "image_unreadable",
        "folder.png": "not_regular_file",
        "pipe.png": "not_regular_file",
        "dangling.png": "image_missing",
    }
    for name, code in expected.items():
        sample = sample_of(tmp_path / name, ImageSize(99, 99), CORNER)
        with pytest.raises(BadRecord) as error:
            checked_sample(sample, root=tmp_path, notes={})
        assert error.value.code == code, name
    sample = sample_of(tmp_path / "inside/link.png", SIZE, CORNER)
    with pytest.raises(BadRecord) as error:
        checked_sample(sample, root=tmp_path / "inside", notes={})
    assert error.value.code == "path_escape"


def test_images_are_stored_by_name_or_embedded_and_read_back(tmp_path: Path) -> None:
    path = stored_turned(tmp_path / "a.png", 1)
    assert image_name(path, tmp_path) == "a.png"
    assert stored_image({"bytes": None, "path": "a.png"}, root=tmp_path) == path
    assert image_bytes(path) == path.read_bytes()
    drawn = DrawnImage(3, 5, "plain", "train")
    name = image_name(drawn, tmp_path)
    assert stored_image({"bytes": None, "path": name}, root=None) == drawn
    embedded = stored_image({"bytes": image_bytes(drawn), "path": None}, root=None)
    assert callable(embedded)
    assert np.array_equal(embedded(), drawn())


def test_datasets_opens_shards_with_embedded_images(tmp_path: Path) -> None:
    for number in range(6):
        Image.new("RGB", (200, 100), (number, 0, 0)).save(tmp_path / f"{number:06d}.png")
    lines = write_lines(tmp_path / "lines.jsonl", [line(number) for number in range(6)])
    plan = plan_of(f"jsonl:{lines}", embed=True, check_images=True)
    result = build(plan, tmp_path / "out")
    data = datasets.load_dataset(
        "parquet", data_dir=str(tmp_path / "out" / "data"), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert len(data) == result.manifest["conversations"]
    assert data[0]["image"].size == (200, 100)
    dataset = BuiltDataset(tmp_path / "out")
    assert data[3]["turns"] == dataset.row(3)["turns"]
    picture = dataset[3].image
    assert callable(picture)
    assert picture().shape == (100, 200, 3)
    raw = dataset.row(3)["image"]["bytes"]
    assert Image.open(io.BytesIO(raw)).size == (200, 100)


def test_datasets_opens_shards_with_image_names(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", [line(number) for number in range(50)])
    result = build(plan_of(f"jsonl:{lines}"), tmp_path / "out")
    data = datasets.load_dataset(
        "parquet", data_dir=str(tmp_path / "out" / "data"), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert len(data) == result.manifest["conversations"]
    assert data[0]["image"]["path"] == "000000.png"


@pytest.mark.parametrize("at", [0, 9, 20, 29])
def test_damaged_embedded_bytes_raise_an_image_error(tmp_path: Path, at: int) -> None:
    data = bytearray(stored_turned(tmp_path / "a.png", 1).read_bytes())
    data[at : at + 8] = b"\xff" * 8
    embedded = stored_image({"bytes": bytes(data), "path": "a.png"}, root=None)
    assert callable(embedded)
    with pytest.raises(ImageError, match=r"image a\.png: "):
        embedded()


def test_an_embedded_picture_over_the_limits_is_not_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 4)).save(buffer, format="PNG")
    embedded = stored_image({"bytes": buffer.getvalue(), "path": None}, root=None)
    assert callable(embedded)
    with pytest.raises(ImageError, match="image embedded: 20000x4 pixels is too large"):
        embedded()
