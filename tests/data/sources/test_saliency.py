import os
from pathlib import Path

import numpy as np
import pytest
from data.sources.reading import codes, collect, notes, samples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.sources.saliency import CATEGORY, open_saliency
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize, Mask

MASK = np.array([[0, 255, 255], [0, 0, 255]], np.uint8)


def _duts(root: Path, **masks: np.ndarray) -> Path:
    for folder in ("DUTS-TR-Image", "DUTS-TR-Mask"):
        (root / folder).mkdir(exist_ok=True)
    for name, mask in masks.items():
        Image.fromarray(mask).save(root / "DUTS-TR-Mask" / f"{name}.png")
        height, width = mask.shape[:2]
        Image.new("RGB", (width, height)).save(root / "DUTS-TR-Image" / f"{name}.jpg")
    return root


def test_the_mask_is_the_salient_instance(tmp_path: Path) -> None:
    (sample,) = samples(open_saliency(_duts(tmp_path, a=MASK), split="train")).values()
    (instance,) = sample.instances
    assert sample.salient == 0
    assert (instance.category, instance.box) == (CATEGORY, Box(1, 0, 3, 2))
    assert instance.mask == Mask(MASK == 255)
    assert sample.size == ImageSize(2, 3)
    assert sample.image == tmp_path / "DUTS-TR-Image" / "a.jpg"
    assert (sample.split, sample.exhaustive, sample.id) == ("train", False, "saliency/a")


def test_salient_instances_of_drawn_scenes_read_back_exactly(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    expected = {}
    for index in range(6):
        scene = draw_scene(17, index, level="hard", split="val")
        sample = scene_sample(scene)
        if sample.salient is None:
            continue
        mask = sample.instances[sample.salient].mask
        assert mask is not None
        expected[str(index)] = mask
        Image.fromarray(mask.array.astype(np.uint8) * 255).save(tmp_path / "masks" / f"{index}.png")
        Image.fromarray(scene.image).save(tmp_path / "images" / f"{index}.png")
    found = samples(open_saliency(tmp_path))
    assert expected
    assert {key: sample.instances[0].mask for key, sample in found.items()} == expected
    assert all(one.instances[0].box == expected[key].to_box() for key, one in found.items())


@pytest.mark.parametrize("inner", ["Imgs", ""])
def test_pictures_and_masks_may_lie_in_one_folder(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    Image.fromarray(MASK).save(folder / "0_1.png")
    Image.new("RGB", (3, 2)).save(folder / "0_1.jpg")
    (sample,) = samples(open_saliency(tmp_path)).values()
    assert sample.image == folder / "0_1.jpg"


GREYS = arrays.arrays(np.uint8, (3, 4), elements=st.integers(0, 255))


@given(grey=GREYS)
def test_grey_edges_are_cut_at_half_brightness(
    tmp_path_factory: pytest.TempPathFactory, grey: np.ndarray
) -> None:
    root = _duts(tmp_path_factory.mktemp("duts"), a=grey)
    readings = collect(open_saliency(root))
    levels = set(np.unique(grey).tolist())
    sample = readings["a"].sample
    if sample is None:
        assert set(codes(readings)) <= {"mask_empty", "mask_damaged"}
        assert max(levels) < 128
    else:
        threshold = 1 if levels <= {0, 1} else 128
        assert sample.instances[0].mask == Mask(grey >= threshold)
        assert ("mask_thresholded" in notes(readings)) == (
            not levels <= {0, 1} and not levels <= {0, 255}
        )


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (np.zeros((2, 3), np.uint8), "mask_empty"),
        (np.full((2, 3), 2, np.uint8), "mask_damaged"),
        (np.full((2, 3, 3), (255, 0, 0), np.uint8), "mask_damaged"),
        (np.full((2, 3, 4), 100, np.uint8), "mask_damaged"),
        (np.full((2, 3), 700, np.uint16), "mask_damaged"),
    ],
)
def test_a_mask_that_shows_nothing_is_a_problem(
    tmp_path: Path, mask: np.ndarray, code: str
) -> None:
    readings = collect(open_saliency(_duts(tmp_path, a=mask, b=MASK)))
    assert codes(readings) == {code: 1}
    assert readings["a"].sample is None
    assert readings["b"].sample is not None


def test_files_without_their_other_half_are_problems(tmp_path: Path) -> None:
    root = _duts(tmp_path, a=MASK, b=MASK, c=MASK, d=MASK)
    (root / "DUTS-TR-Mask" / "a.png").unlink()
    (root / "DUTS-TR-Image" / "b.jpg").unlink()
    Image.new("RGB", (3, 2)).save(root / "DUTS-TR-Image" / "c.png")
    (root / "DUTS-TR-Mask" / "d.png").write_bytes(b"PNG")
    (root / "DUTS-TR-Image" / "Thumbs.db").write_bytes(b"")
    readings = collect(open_saliency(root))
    assert {key: reading.problems[0].code for key, reading in readings.items()} == {
        "a": "unknown_annotation",
        "b": "image_missing",
        "c": "duplicate_image",
        "d": "mask_damaged",
    }


def test_names_and_links_are_not_trusted(tmp_path: Path) -> None:
    root = _duts(tmp_path, a=MASK)
    masks, images = root / "DUTS-TR-Mask", root / "DUTS-TR-Image"
    (masks / "a.png").rename(tmp_path / "secret.png")
    (masks / "a.png").symlink_to(tmp_path / "secret.png")
    (images / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
    (masks / "pipe.png").mkdir()
    (images / "pipe.jpg").write_bytes(b"")
    assert codes(collect(open_saliency(root))) == {
        "path_escape": 1,
        "bad_encoding": 1,
        "mask_damaged": 1,
    }


def test_folders_are_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="does not exist"):
        open_saliency(tmp_path / "none")
    with pytest.raises(AnnotationError, match="does not exist"):
        open_saliency(tmp_path, images=tmp_path, masks=tmp_path / "none")
    source = open_saliency(tmp_path, images=_duts(tmp_path) / "DUTS-TR-Image", masks=tmp_path)
    assert source.files == (str(tmp_path / "DUTS-TR-Image"), str(tmp_path))
