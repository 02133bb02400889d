import os
from pathlib import Path

import pytest
from data.sources.reading import codes, collect, notes, samples
from moving import numbered, write_gif, write_video

from deixis.data.sources import open_source
from deixis.data.sources.tgif import open_tgif
from deixis.errors import AnnotationError, RecipeError
from deixis.geometry import ImageSize
from deixis.structures import Video

HOST = "https://38.media.tumblr.com"


def address(name: str) -> str:
    return f"{HOST}/9f6c25cc350f12aa/{name}.gif"


def _tgif(root: Path, *lines: str, names: str = "abc", **splits: str) -> Path:
    """The official layout; ``splits`` are the names in each list."""
    (root / "data" / "splits").mkdir(parents=True)
    (root / "gifs").mkdir()
    (root / "data" / "tgif-v1.0.tsv").write_text("".join(f"{line}\n" for line in lines))
    for split, members in splits.items():
        listing = root / "data" / "splits" / f"{split}.txt"
        listing.write_text("".join(f"{address(name)}\n" for name in members))
    if names:
        first = write_gif(root / "gifs" / f"{names[0]}.gif", numbered(5), delays=200)
        for name in names[1:]:
            os.link(first, root / "gifs" / f"{name}.gif")
    return root


def told(name: str, caption: str) -> str:
    return f"{address(name)}\t{caption}"


def test_captions_of_a_gif_come_together(tmp_path: Path) -> None:
    lines = (told("b", "a man waves"), told("a", "a dog runs."), told("b", "someone says hello"))
    root = _tgif(tmp_path, *lines, train="a", test="b")
    for path in (root, root / "data", root / "data" / "tgif-v1.0.tsv"):
        read = samples(open_tgif(path))
        assert list(read) == ["a.gif", "b.gif"]
        captions = {one.text for one in read["b.gif"].captions}
        assert captions == {"a man waves", "someone says hello"}
        sample = read["a.gif"]
        assert sample.image == Video(root / "gifs" / "a.gif", num_frames=5, seconds=1.0)
        assert (sample.id, sample.size, sample.exhaustive) == (
            "tgif/a.gif",
            ImageSize(48, 64),
            False,
        )
        assert [one.split for one in read.values()] == ["train", "test"]


def test_a_split_is_read_alone(tmp_path: Path) -> None:
    lines = [told(name, f"caption of {name}") for name in "abc"]
    root = _tgif(tmp_path, *lines, train="ac", val="b", test="")
    assert list(samples(open_tgif(root, split="train"))) == ["a.gif", "c.gif"]
    assert list(samples(open_tgif(root, split="val"))) == ["b.gif"]
    assert samples(open_tgif(root, split="test")) == {}


def test_invalid_lines_are_listed(tmp_path: Path) -> None:
    lines = [
        *(told("a", "one"), told("a", "two"), told("gone", "three"), told("empty", "four")),
        *(told("cut", "five"), f"{address('b')} no tab", f"{address('b')}\t", "\t\t\t"),
        *(f"{HOST}/x.jpg\tsix", f"{HOST}/.gif\tseven", f"http://[::/b.gif\t{'eight'}"),
        *(f"{HOST}/other/c.gif\tnine", told("c", "ten"), f"{HOST}/..\\..\\x.gif\televen"),
        told("folder", "twelve"),
    ]
    root = _tgif(tmp_path, *lines, train="aab", val="a")
    gif = (root / "gifs" / "a.gif").read_bytes()
    (root / "gifs" / "empty.gif").write_bytes(b"")
    (root / "gifs" / "cut.gif").write_bytes(gif[: len(gif) // 2])
    (root / "gifs" / "folder.gif").mkdir()
    with (root / "data" / "tgif-v1.0.tsv").open("ab") as file:
        file.write(address("b").encode() + b"\tcaf\xe9\n\r\n")
    readings = collect(open_tgif(root))
    assert codes(readings) == {
        "video_missing": 1,
        "video_empty": 1,
        "video_unreadable": 1,
        "not_regular_file": 1,
        "bad_record": 4,
        "bad_text": 1,
        "bad_encoding": 1,
        "duplicate_image": 1,
        "path_escape": 1,
        # b is listed, and all its captions are at fault
        "unknown_annotation": 1,
        # a stands in train twice and in val
        "duplicate_annotation": 2,
    }
    sample = readings["a.gif"].sample
    assert sample is not None
    assert [one.text for one in sample.captions] in (["one", "two"], ["two", "one"])
    missing = readings["gone.gif"].problems[0]
    assert (missing.detail, missing.place) == ("gone.gif: no such file", "tgif-v1.0.tsv: line 3")


def test_a_repeated_caption_is_counted(tmp_path: Path) -> None:
    root = _tgif(tmp_path, *[told("a", "a dog runs")] * 3)
    readings = collect(open_tgif(root))
    assert notes(readings) == {"caption_repeated": 2}
    assert codes(readings) == {}


def test_copies_in_another_format_are_found(tmp_path: Path) -> None:
    root = _tgif(tmp_path, told("a", "a dog runs"), names="")
    write_video(root / "other" / "a.mp4", numbered(4))
    spec = f"tgif:{root},suffix=.mp4,images={root / 'other'}"
    opened = open_source(spec)
    assert opened.videos
    assert opened.root == root / "other"
    (sample,) = samples(opened.source).values()
    assert sample.image == Video(root / "other" / "a.mp4", 4, 0.4)


def test_files_of_tgif_are_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"expected data/tgif-v1\.0\.tsv or"):
        open_tgif(tmp_path)
    root = _tgif(tmp_path, names="")
    with pytest.raises(RecipeError, match="split 'dev': expected one of"):
        open_tgif(root, split="dev")
    with pytest.raises(AnnotationError, match=r"val\.txt: does not exist, expected the list"):
        open_tgif(root, split="val")
    with pytest.raises(RecipeError, match=r"suffix '\.avi': expected one of"):
        open_tgif(root, suffix=".avi")
    (root / "gifs").rmdir()
    with pytest.raises(AnnotationError, match="expected the folder of the GIFs"):
        open_tgif(root)
