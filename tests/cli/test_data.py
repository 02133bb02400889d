"""``deixis data scenes``: data sets in the formats of real ones."""

from pathlib import Path

import pytest
from command import Run
from pycocotools.coco import COCO

from deixis.data.scenes.export import FORMATS


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_opens_in_pycocotools(
    deixis: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scenes"
    ended = deixis(
        "data", "scenes", "--split", "val", "--count", 3, "--format", "coco", "--out", out
    )
    assert ended.code == 0
    assert f"scenes: {out}" in ended.err
    coco = COCO(str(out / "annotations" / "instances_val.json"))
    capfd.readouterr()
    assert len(coco.getImgIds()) == 3
    annotations = coco.loadAnns(coco.getAnnIds())
    assert annotations
    assert coco.annToMask(annotations[0]).any()


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_format_is_written(deixis: Run, tmp_path: Path, form: str) -> None:
    out = tmp_path / "scenes"
    arguments = ["--count", 2, "--format", form, "--level", "plain", "--seed", 3, "--out", out]
    assert deixis("data", "scenes", *arguments).code == 0
    assert any(path.is_file() for path in out.rglob("*"))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--format", "nope"], 2, "unknown format 'nope': expected one of coco"),
        (["--level", "nope"], 2, "unknown scene level 'nope'"),
        (["--split", "nope"], 2, "unknown split 'nope'"),
        (["--count", "0"], 2, "--count"),
        (["--seed", "-1"], 2, "--seed"),
        (["--count", "many"], 2, "--count"),
    ],
)
def test_invalid_options_of_scenes_are_refused(
    deixis: Run, tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    ended = deixis("data", "scenes", *options, "--out", tmp_path / "scenes")
    assert ended.code == code
    assert words in ended.err.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_alone(deixis: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    ended = deixis("data", "scenes", "--count", 1, "--out", tmp_path)
    assert ended.code == 4
    assert "is not empty, expected a new or empty folder" in ended.err
