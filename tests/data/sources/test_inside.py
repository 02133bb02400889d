"""Pictures, masks and videos that a data set names: inside its folder, whatever links there are."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from annotated import line, plan_of, write_lines
from PIL import Image

from deixis.data.build import Budget, BuiltDataset, build
from deixis.data.build.stored_images import stored_image
from deixis.data.build.stored_videos import stored_video
from deixis.data.sources import BadRecord
from deixis.data.sources.reading.fields import image_path
from deixis.data.sources.reading.inside import check_inside, stored_path
from deixis.data.sources.reading.segment_pictures import read_numbers
from deixis.errors import AnnotationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder ``images`` with ``in/deep/a.png``, and one of the same beside it."""
    for place in ("images/in/deep", "elsewhere/deep"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("L", (200, 100)).save(tmp_path / place / "a.png")
    return tmp_path / "images"


def link(folder: Path, name: str, target: Path) -> str:
    (folder / name).symlink_to(target)
    return name


def test_links_that_stay_inside_are_followed(folder: Path) -> None:
    link(folder, "sub", folder / "in")
    link(folder, "file.png", folder / "in/deep/a.png")
    for name in ("in/deep/a.png", "sub/deep/a.png", "file.png", "none/none.png", "sub/none.png"):
        assert image_path(folder, name) == folder / name


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to(folder)
    assert image_path(tmp_path / "root", "in/deep/a.png").is_file()


@pytest.mark.parametrize("levels", ["file", "parent", "two", "dangling", "circle", "parents"])
def test_links_that_lead_out_are_refused_at_every_level(
    folder: Path, tmp_path: Path, levels: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    name = {
        "file": lambda: link(folder, "x.png", elsewhere / "deep" / "a.png"),
        "parent": lambda: link(folder, "sub", elsewhere / "deep") + "/a.png",
        "two": lambda: link(folder, "sub", elsewhere) + "/deep/a.png",
        "dangling": lambda: link(folder, "x.png", tmp_path / "nowhere.png"),
        "circle": lambda: link(folder, "sub", folder / "sub") + "/deep/a.png",
        "parents": lambda: link(folder, "sub", Path("..")) + "/elsewhere/deep/a.png",
    }[levels]()
    with pytest.raises(BadRecord, match=r"path_escape: .*link that leads out of the image"):
        image_path(folder, name)
    with pytest.raises(BadRecord, match="path_escape"):
        check_inside(folder / name, folder)
    with pytest.raises(AnnotationError, match="path_escape"):
        stored_image({"bytes": None, "path": name}, root=folder)
    with pytest.raises(AnnotationError, match="path_escape"):
        stored_video({"video": {"bytes": None, "path": name}}, root=folder)
    with pytest.raises(BadRecord, match="path_escape"):
        read_numbers(folder, name)


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "x/../../a.png", "..", "a\x00b", "."])
def test_names_of_shards_that_lead_out_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(AnnotationError, match=r"path_escape: .* is not a name inside"):
        stored_path(name, folder)


def test_a_name_with_blanks_and_dots_is_found(folder: Path) -> None:
    assert stored_path(" a..b /c .png", folder) == folder / " a..b /c .png"


@pytest.mark.parametrize("check", [False, True])
def test_bytes_outside_the_folder_never_get_into_a_shard(
    folder: Path, tmp_path: Path, *, check: bool
) -> None:
    link(folder, "sub", tmp_path / "elsewhere")
    names = ["in/deep/a.png", "sub/deep/a.png"]
    lines = [line(number, image=name) for number, name in enumerate(names)]
    source = f"jsonl:{write_lines(tmp_path / 'lines.jsonl', lines)},images={folder}"
    plan = plan_of(source, tasks="caption", embed=True, check_images=check)
    result = build(plan, tmp_path / "out", budget=Budget(share=1))
    assert result.manifest["quarantine"]["reasons"] == {"path_escape": 1}
    rows = list(BuiltDataset(tmp_path / "out").rows())
    assert [row["id"] for row in rows] == ["jsonl/image-000000/0"]
    (row,) = pq.read_table(tmp_path / "out" / "quarantine.parquet").to_pylist()
    assert str(tmp_path) not in row["detail"]


def test_pictures_of_one_folder_are_resolved_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = Path.resolve
    resolved = []

    def counted(self: Path, *, strict: bool = False) -> Path:
        resolved.append(self)
        return resolve(self, strict=strict)

    monkeypatch.setattr(Path, "resolve", counted)
    for number in range(50):
        image_path(folder, f"in/deep/{number}.png")
    assert len(resolved) == 2
