"""Pictures are decoded in a process that may hang or crash on a damaged picture."""

from pathlib import Path

import pytest
from annotated import line, plan_of, write_lines
from data.build.reading_badly import by_name
from data.sources.pictures import picture

from deixis.data.build import build, check_pictures
from deixis.data.build.picture_reader import PictureReader
from deixis.data.sources.base import BadRecord
from deixis.geometry import ImageSize
from deixis.processing.images import read_image


def test_a_picture_that_hangs_or_crashes_is_reported_and_the_next_is_read() -> None:
    with PictureReader(by_name) as reader:
        assert reader.look(b"sound") == ImageSize(2, 3)
        with pytest.raises(BadRecord, match="decoder_crash: reading it ended the process: SIGSEGV"):
            reader.look(b"die")
        reader.seconds = 0.2
        with pytest.raises(BadRecord, match=r"decode_timeout: not read in 0\.2 s"):
            reader.look(b"hang")
        reader.seconds = 60
        assert reader.look(b"sound") == ImageSize(2, 3)


def test_embedded_pictures_are_decoded(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"{number:06d}.png", 200, 100)
    data = (tmp_path / "000001.png").read_bytes()
    # the header is valid, the pixels are damaged
    (tmp_path / "000001.png").write_bytes(data[: len(data) - 20])
    path = write_lines(tmp_path / "mine.jsonl", [line(number) for number in range(3)])
    build(plan_of(f"jsonl:{path}", tasks="rec", embed=True, check_images=True), tmp_path / "out")
    for name in tmp_path.glob("*.png"):
        name.unlink()
    found = check_pictures(tmp_path / "out", read_image)
    # the same bytes are decoded once
    assert (found.records, found.images, found.sound) == (3, 2, 1)
    assert dict(found.reasons) == {"image_unreadable": 1}
    assert found.examples["image_unreadable"][0].startswith("jsonl/000001.png: ")
