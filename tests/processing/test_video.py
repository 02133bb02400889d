import os
import pickle
import resource
import struct
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import numbered, numbers, red_corner, write_gif, write_video
from PIL import Image

from deixis.errors import DeixisError, ImageError, RecipeError
from deixis.geometry import ImageSize
from deixis.processing.video import (
    VideoError,
    VideoLimits,
    read_video,
    read_video_header,
    spread,
)
from deixis.structures import Video

each_format = pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".gif"])


def write(path: Path, count: int, *, width: int = 64, height: int = 48) -> Path:
    frames = numbered(count, width=width, height=height)
    return write_gif(path, frames) if path.suffix == ".gif" else write_video(path, frames)


@each_format
def test_frames_come_back_as_they_were_written(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", 20)
    header = read_video_header(path)
    assert header.size == ImageSize(48, 64)
    assert header.num_frames == (None if suffix in {".webm", ".mkv"} else 20)
    assert header.seconds == pytest.approx(2.0, abs=0.02)
    video = read_video(path)
    assert video.frames.shape == (8, 48, 64, 3)
    assert video.size == header.size
    assert numbers(video.frames) == [0, 2, 5, 8, 10, 13, 16, 19]
    assert video.times is not None
    assert [round(10 * time) for time in video.times] == numbers(video.frames)
    difference = numbered(20)[numbers(video.frames)].astype(int) - video.frames
    assert np.abs(difference[:, 20:, 28:]).max() <= 8


@each_format
def test_a_path_its_name_its_bytes_and_a_video_are_the_same(suffix: str, tmp_path: Path) -> None:
    # detected by content, not by name
    path = write(tmp_path / f"a{suffix}", 9).rename(tmp_path / "a.jpg")
    first = read_video(path, num_frames=3)
    for other in (str(path), path.read_bytes(), Video(path), Video(path.read_bytes())):
        np.testing.assert_array_equal(read_video(other, num_frames=3).frames, first.frames)


@each_format
def test_one_frame_is_in_the_middle_and_few_are_repeated(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", 9)
    assert numbers(read_video(path, num_frames=1).frames) == [4]
    short = write(tmp_path / f"b{suffix}", 3)
    assert numbers(read_video(short, num_frames=6).frames) == [0, 0, 0, 1, 1, 2]
    single = write(tmp_path / f"c{suffix}", 1)
    assert numbers(read_video(single, num_frames=3).frames) == [0, 0, 0]


@given(st.integers(-50, 50), st.integers(0, 300), st.integers(1, 40))
def test_spread_includes_both_ends(first: int, length: int, count: int) -> None:
    chosen = spread(first, first + length, count)
    assert len(chosen) == count
    assert chosen == sorted(chosen)
    if count > 1:
        assert (chosen[0], chosen[-1]) == (first, first + length)
        steps = np.diff(chosen)
        assert steps.max() - steps.min() <= 1


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", 20)
    again = [read_video(path).frames.tobytes() for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize("keyframes", ["1", "4", "250"])
def test_seeking_reads_the_same_frames_as_decoding_all(keyframes: str, tmp_path: Path) -> None:
    frames = np.repeat(numbered(20), 4, axis=0)
    path = write_video(tmp_path / "a.mp4", frames, options={"g": keyframes, "bf": "2"})
    with av.open(str(path)) as container:
        walked = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for count in (1, 5, 8, 80):
        jumped = read_video(path, num_frames=count).frames
        expected = [walked[number] for number in spread(0, 79, count)]
        np.testing.assert_array_equal(jumped, np.stack(expected))


@pytest.mark.parametrize(
    ("rotation", "corner"),
    [(0, "top left"), (90, "bottom left"), (-90, "top right"), (180, "bottom right")],
)
def test_frames_stand_upright(rotation: int, corner: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(6), rotation=rotation)
    header = read_video_header(path)
    assert header.stored == ImageSize(48, 64)
    assert header.size == (ImageSize(64, 48) if rotation % 180 else ImageSize(48, 64))
    video = read_video(path, num_frames=3)
    assert video.size == header.size
    assert {red_corner(frame) for frame in video.frames} == {corner}
    assert numbers(video.frames) == [0, 2, 5]


def test_frames_are_spread_over_time_where_they_last_unequally(tmp_path: Path) -> None:
    at = [0, 1, 2, 3, 10, 20]
    path = write_video(tmp_path / "a.mp4", numbered(6), at=at, rate=10)
    assert numbers(read_video(path, num_frames=3).frames) == [0, 4, 5]
    delays = [100, 100, 100, 700, 1000, 100]
    gif = write_gif(tmp_path / "a.gif", numbered(6), delays=delays)
    video = read_video(gif, num_frames=3)
    assert numbers(video.frames) == [0, 4, 5]
    assert video.times == (0.0, 1.0, 2.0)


def test_a_delay_that_viewers_do_not_take_is_a_tenth_of_a_second(tmp_path: Path) -> None:
    gif = write_gif(tmp_path / "a.gif", numbered(5), delays=[10, 10, 500, 500, 10])
    assert read_video_header(gif).seconds == pytest.approx(1.3)


def test_transparency_is_blended_with_white_and_earlier_frames_stay(tmp_path: Path) -> None:
    pictures = []
    for column in range(4):
        picture = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
        picture.paste((200, 0, 0, 255), (10 * column, 0, 10 * column + 10, 20))
        pictures.append(picture)
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], disposal=1, duration=100)
    frames = read_video(path, num_frames=4).frames
    for number, frame in enumerate(frames):
        assert (frame[:, : 10 * number + 10] == (200, 0, 0)).all()
        assert (frame[:, 10 * number + 10 :] == 255).all()


def test_a_drawn_video_is_called_for_its_frames() -> None:
    video = read_video(Video(lambda: numbered(20), seconds=10.0), num_frames=4)
    assert numbers(video.frames) == [0, 6, 12, 19]
    assert video.times == (0.0, 3.0, 6.0, 9.5)
    assert read_video(Video(lambda: numbered(3)), num_frames=1).times is None
    with pytest.raises(ImageError, match="no frame"):
        read_video(Video(lambda: numbered(3)[:0]))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    picture = np.zeros((270, 480, 3), np.uint8)

    def most(count: int) -> int:
        path = write_video(
            tmp_path / f"{count}.mp4",
            np.broadcast_to(picture, (count, *picture.shape)),
            options={"preset": "ultrafast", "g": "1000"},
        )
        read_video(path, num_frames=4)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = most(20)
    # 600 frames of 380 KB
    assert most(600) - before < 60_000


def _replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


def _cases(folder: Path) -> dict[str, tuple[bytes, str]]:
    options = {"movflags": "faststart"}
    mp4 = write_video(
        folder / "a.mp4", numbered(20), options={"g": "5"}, container_options=options
    ).read_bytes()
    webm = write_video(folder / "a.webm", numbered(40)).read_bytes()
    gif = write_gif(folder / "a.gif", numbered(12)).read_bytes()
    return {
        "empty": (b"", "no bytes, expected MP4, WebM or GIF"),
        "text": (b"<html>not found</html>", "expected MP4, WebM or GIF"),
        "jpeg": (b"\xff\xd8\xff\xe0" + bytes(40), "expected MP4, WebM or GIF"),
        "playlist": (b"#EXTM3U\nfile:///etc/passwd\n", "expected MP4, WebM or GIF"),
        "concat": (b"ffconcat version 1.0\nfile /etc/passwd\n", "expected MP4, WebM or GIF"),
        "mp4 head": (mp4[:40], "holds no video"),
        "mp4 half": (mp4[: len(mp4) // 2], "damaged"),
        "mp4 most": (mp4[:-200], "cut short"),
        "mp4 without frames": (mp4[: mp4.index(b"mdat") + 4], "damaged"),
        "mp4 codec": (mp4.replace(b"avc1", b"raw "), "codec rawvideo, expected one of"),
        "mp4 no codec": (mp4.replace(b"avc1", b"zzzz"), "codec unknown, expected one of"),
        "webm head": (webm[:200], "damaged"),
        "webm half": (webm[: len(webm) // 2], "cut short"),
        "webm codec": (webm.replace(b"V_VP9", b"V_XYZ"), "codec unknown"),
        "gif head": (gif[:9], "cut short"),
        "gif half": (gif[: len(gif) // 2], "cut short"),
        "gif end": (gif[:-1], "cut short"),
        "gif no frame": (gif[:6] + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + b";", "no frame"),
        "gif no width": (_replaced(gif, gif[6:10], bytes(4)), "a frame leaves its picture"),
        "gif large": (_replaced(gif, gif[6:10], b"\xff\xff\xff\xff"), "65535x65535 pixels"),
        "gif block": (gif[:-1] + b"\x77;", "block 0x77"),
    }


CASES = sorted(
    (
        *("empty", "text", "jpeg", "playlist", "concat", "mp4 head", "mp4 half", "mp4 most"),
        *("mp4 without frames", "mp4 codec", "mp4 no codec", "webm head", "webm half"),
        *("webm codec", "gif head", "gif half", "gif end", "gif no frame", "gif no width"),
        *("gif large", "gif block"),
    )
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, str]]:
    return _cases(tmp_path_factory.mktemp("cases"))


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_file_is_refused_in_one_line(
    case: str, cases: dict[str, tuple[bytes, str]], tmp_path: Path
) -> None:
    assert sorted(cases) == CASES
    data, reason = cases[case]
    path = tmp_path / "a video\n.mp4"
    path.write_bytes(data)
    with pytest.raises(VideoError, match=reason) as caught:
        read_video(path)
    assert "\n" not in str(caught.value)
    assert caught.value.code in {"video_empty", "video_unreadable", "video_too_large"}
    copied = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (str(copied), copied.code) == (str(caught.value), caught.value.code)
    with pytest.raises(VideoError):
        read_video(data)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_flipped_bytes_return_frames_or_raise_image_errors(
    cases: dict[str, tuple[bytes, str]], data: st.DataObject
) -> None:
    known = (cases["mp4 most"][0], cases["webm half"][0], cases["gif end"][0] + b";")
    broken = bytearray(data.draw(st.sampled_from(known)))
    for _ in range(data.draw(st.integers(1, 12))):
        broken[data.draw(st.integers(0, min(len(broken) - 1, 1500)))] = data.draw(
            st.integers(0, 255)
        )
    said = _outcome(bytes(broken))
    assert said == "frames" or (said.startswith("video <") and "\n" not in said)


def _outcome(data: bytes) -> str:
    try:
        read_video(data, num_frames=3)
    except DeixisError as error:
        return str(error)
    return "frames"


def test_paths_that_are_not_regular_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    for path, code in (
        (tmp_path / "none.mp4", "video_missing"),
        (tmp_path, "not_regular_file"),
        (tmp_path / "fifo.mp4", "not_regular_file"),
        (tmp_path / "loop.mp4", "video_unreadable"),
        (Path("\0.mp4"), "video_unreadable"),
    ):
        with pytest.raises(VideoError) as caught:
            read_video_header(path)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (VideoLimits(num_bytes=100, gif_bytes=100), "bytes, expected at most 100"),
        (VideoLimits(side=63), "64x48 pixels, expected at most 63 a side"),
        (VideoLimits(pixels=3000), "64x48 pixels"),
        (VideoLimits(seconds=1.5), "2 seconds, expected at most 2"),
        (VideoLimits(num_frames=19), "frames, expected at most 19"),
        (VideoLimits(all_pixels=19 * 64 * 48), "pixels in all"),
    ],
)
@each_format
def test_limits_hold(suffix: str, limits: VideoLimits, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", 20)
    assert numbers(read_video(path, num_frames=1).frames) == [9]
    with pytest.raises(VideoError, match=reason) as caught:
        read_video(path, limits=limits)
    assert caught.value.code == "video_too_large"


def test_too_many_frames_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gif", 3)
    for count in (0, 1025):
        with pytest.raises(ImageError, match="expected 1 to 1024"):
            read_video(path, num_frames=count)
    wide = write_gif(tmp_path / "b.gif", np.zeros((2, 900, 900, 3), np.uint8))
    with pytest.raises(VideoError, match="1000 frames of 900x900 wanted"):
        read_video(wide, num_frames=1000)


def test_without_the_extra_gifs_are_read_and_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, gif = write(tmp_path / "a.mp4", 4), write(tmp_path / "a.gif", 4)
    monkeypatch.setitem(sys.modules, "av", None)
    assert numbers(read_video(gif, num_frames=2).frames) == [0, 3]
    with pytest.raises(RecipeError, match="install deixis with the extra `video`"):
        read_video(video)


def test_an_audio_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="holds no video"):
        read_video_header(path)
