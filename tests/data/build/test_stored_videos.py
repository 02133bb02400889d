"""Videos in builds: rows, quarantine, and the commands that refuse videos."""

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from annotated import bytes_of, line, plan_of, write_lines
from moving import numbered, numbers, red_corner, write_gif, write_video

from deixis.cli.dataset_page import choose_rows, contact_sheet, view_page
from deixis.data.bootstrap import BootstrapPlan
from deixis.data.bootstrap.json_lines import image_fields
from deixis.data.bootstrap.round_trip_worker import pixels_of
from deixis.data.build import Budget, BuiltDataset, build, check_sources, verify
from deixis.data.build.block import EMBED_LIMIT
from deixis.data.build.stored_videos import EMBEDDED_BYTES, video_bytes, video_name
from deixis.data.dataset_report import Counts
from deixis.data.export import export_samples
from deixis.data.salient import SalientPlan
from deixis.data.scenes import draw_clip
from deixis.data.sources import BadRecord, open_source, refuse_videos
from deixis.data.sources.scenes_video import DrawnVideo, drawn_video
from deixis.errors import BenchmarkError, BudgetError, ImageError, RecipeError
from deixis.evaluation.examples import Example
from deixis.geometry import ImageSize
from deixis.processing.video import read_video
from deixis.structures import Sample, Video

TASKS = "video_caption*2,video_caption_detailed,video_qa,caption,vqa"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of every format, with captions and questions."""
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "videos" / "0.mp4", numbered(12), rotation=90)
    write_video(root / "videos" / "1.webm", numbered(9))
    write_gif(root / "videos" / "2.gif", numbered(7))
    for number in range(3, 24):
        suffix = (".mp4", ".webm", ".gif")[number % 3]
        os.link(root / "videos" / f"{number % 3}{suffix}", root / "videos" / f"{number}{suffix}")
    lines = [
        {
            "video": f"{number}{('.mp4', '.webm', '.gif')[number % 3]}",
            "captions": [f"clip {number}", f"A light grows. Then clip {number} ends."],
            "questions": [{"question": "What grows?", "answer": "The light."}],
        }
        for number in range(24)
    ]
    write_lines(root / "captions.jsonl", lines)
    return root


def test_rows_of_videos_name_their_files(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(f"video_folder:{folder}", tasks=TASKS, check_images=True, shard_images=10)
    result = build(plan, tmp_path / "out")
    # image tasks give no turns for videos
    assert set(result.manifest["tasks"]) == {
        *("video_caption", "video_caption_detailed", "video_qa"),
    }
    assert result.manifest["sources"]["video_folder"]["used"] == 24
    verify(tmp_path / "out")
    dataset = BuiltDataset(tmp_path / "out")
    row = dataset.row(0)
    assert row["image"] is None
    assert row["video"] == {"bytes": None, "path": "0.mp4"}
    assert (row["frames"], row["height"], row["width"]) == (12, 64, 48)
    assert row["seconds"] == pytest.approx(1.2)
    conversation = dataset[0]
    assert conversation.image == Video(folder / "videos" / "0.mp4", 12, row["seconds"])
    assert isinstance(conversation.image, Video)
    frames = read_video(conversation.image, num_frames=3).frames
    assert numbers(frames) == [0, 5, 11]
    assert red_corner(frames[0]) == "bottom left"
    counts = Counts()
    for one in dataset.rows():
        counts.take(one)
    assert len(counts.images) == 24


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_bytes(folder: Path, tmp_path: Path) -> None:
    specs = (f"video_folder:{folder}", "scenes_video:train,count=4,frames=4,level=plain")
    made = []
    for workers in (1, 2):
        plan = plan_of(*specs, tasks=TASKS, check_images=True, shard_images=12)
        build(plan, tmp_path / str(workers), workers=workers)
        made.append(bytes_of(tmp_path / str(workers)))
    assert made[0] == made[1]


def test_embedded_videos_are_read_without_their_files(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(f"video_folder:{folder}", tasks="video_caption", embed=True)
    for out in ("out", "again"):
        build(plan, tmp_path / out)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "again")
    dataset = BuiltDataset(tmp_path / "out", roots={"video_folder": Path("/nowhere")})
    for number in range(3):
        video = dataset[number].image
        assert isinstance(video, Video)
        assert isinstance(video.content, bytes)
        assert numbers(read_video(video, num_frames=2).frames)[0] == 0
    assert dataset.row(0)["video"]["path"] == "0.mp4"


@pytest.mark.slow
def test_other_libraries_open_the_shards(folder: Path, tmp_path: Path) -> None:
    import datasets  # noqa: PLC0415  # slow to load

    for embed in (False, True):
        out = tmp_path / str(embed)
        plan = plan_of(f"video_folder:{folder}", tasks="video_caption", embed=embed)
        build(plan, out)
        loaded = datasets.load_dataset(
            "parquet", data_dir=str(out / "data"), cache_dir=str(tmp_path / "cache")
        )["train"]
        assert loaded[0]["image"] is None
        assert loaded[0]["video"]["path"] == "0.mp4"
        assert (loaded[0]["video"]["bytes"] is not None) == embed


def test_images_and_videos_share_a_build(folder: Path, tmp_path: Path) -> None:
    images = write_lines(tmp_path / "lines.jsonl", [line(number) for number in range(30)])
    tasks = "rec,caption,video_caption"
    build(plan_of(f"jsonl:{images}", f"video_folder:{folder}", tasks=tasks), tmp_path / "both")
    build(plan_of(f"jsonl:{images}", tasks=tasks), tmp_path / "images")
    both = list(BuiltDataset(tmp_path / "both").rows())
    assert len({tuple(row) for row in both}) == 1
    alone = list(BuiltDataset(tmp_path / "images").rows())
    assert "video" not in alone[0]
    new = {"video": None, "frames": None, "seconds": None}
    assert [row for row in both if row["image"]] == [row | new for row in alone]
    assert {row["task"] for row in both if row["video"]} == {"video_caption"}


def test_problems_are_quarantined_with_their_reasons(folder: Path, tmp_path: Path) -> None:
    names = ["good.gif", "none.mp4", "empty.mp4", "cut.gif", "text.webm", "out.gif"]
    videos = tmp_path / "videos"
    gif = write_gif(videos / "good.gif", numbered(3)).read_bytes()
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "cut.gif").write_bytes(gif[:-40])
    (videos / "text.webm").write_text("not found")
    (videos / "out.gif").symlink_to(folder / "videos" / "2.gif")
    write_lines(tmp_path / "captions.jsonl", [{"video": n, "captions": ["a"]} for n in names])
    plan = plan_of(f"video_folder:{tmp_path}", tasks="video_caption", check_images=True)
    result = build(plan, tmp_path / "out", budget=Budget(share=1))
    assert result.manifest["quarantine"]["reasons"] == {
        "path_escape": 1,
        "video_empty": 1,
        "video_missing": 1,
        "video_unreadable": 2,
    }
    rows = pq.read_table(tmp_path / "out" / "quarantine.parquet").to_pylist()
    assert not [row for row in rows if str(tmp_path) in row["detail"]]
    findings = check_sources(plan.sources)
    assert findings.sound == 1
    with pytest.raises(BudgetError, match="mostly video_unreadable 2"):
        build(plan, tmp_path / "strict", budget=Budget(least=1))


def test_a_build_without_the_extra_names_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    plan = plan_of(f"video_folder:{folder}", tasks="video_caption")
    with pytest.raises(RecipeError, match="install deixis with the extra `video`"):
        build(plan, tmp_path / "out")


def test_drawn_clips_are_stored_by_name_and_drawn_again(tmp_path: Path) -> None:
    spec = "scenes_video:val,count=6,frames=5,level=plain,seed=3"
    build(plan_of(spec, tasks=TASKS, check_images=True), tmp_path / "out")
    verify(tmp_path / "out")
    dataset = BuiltDataset(tmp_path / "out")
    row = dataset.row(0)
    assert row["video"]["path"] == "scenes-video://plain/val/3/0/5"
    assert (row["frames"], row["seconds"]) == (5, None)
    video = dataset[0].image
    assert isinstance(video, Video)
    assert video == Video(DrawnVideo(3, 0, "plain", "val", 5), num_frames=5)
    frames = read_video(video, num_frames=2).frames
    assert frames.shape[1:3] == (row["height"], row["width"])
    clip = draw_clip(3, 0, level="plain", split="val", frames=5)
    np.testing.assert_array_equal(frames[1], clip.frames[4].image)
    with pytest.raises(BadRecord, match="expected scenes-video://LEVEL/SPLIT/SEED/INDEX/FRAMES"):
        drawn_video("scenes-video://plain/val/3/0")
    with pytest.raises(
        RecipeError, match=r"drawn clips cannot be embedded\nhint: build without --embed"
    ):
        build(plan_of(spec, tasks=TASKS, embed=True), tmp_path / "embedded")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("scenes_video:nowhere", "expected a split of"),
        ("scenes_video:train,level=odd", "level 'odd'"),
        ("scenes_video:train,frames=3", "frames 3: expected 4 to 256"),
        ("scenes_video:train,frames=many", "expected a whole number"),
        ("scenes_video:train,colour=red", "expected one of"),
    ],
)
def test_wrong_options_of_drawn_clips_are_refused(spec: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        open_source(spec)


def test_only_small_videos_are_embedded(tmp_path: Path) -> None:
    large = tmp_path / "a.mp4"
    with large.open("wb") as file:
        file.truncate(EMBEDDED_BYTES + 1)
    with pytest.raises(BadRecord, match=r"video_too_large: a\.mp4: over"):
        video_bytes(Video(large))
    with pytest.raises(BadRecord, match="video_unreadable"):
        video_bytes(Video(tmp_path / "none.mp4"))
    assert EMBEDDED_BYTES < EMBED_LIMIT
    with pytest.raises(BadRecord, match="path_escape"):
        video_name(Video(large), tmp_path / "other")
    with pytest.raises(BadRecord, match="has to be embedded"):
        video_name(Video(lambda: numbered(2)), tmp_path)


def test_a_page_and_a_sheet_show_the_middle_frame(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(plan_of(f"video_folder:{folder}", tasks="video_caption"), tmp_path / "out")
    dataset = BuiltDataset(tmp_path / "out")
    rows = choose_rows(dataset, task=None, source=None, count=4, seed=0)
    page = view_page(dataset, rows)
    assert page.count("data:image/jpeg") == 4
    assert "unreadable" not in page
    assert contact_sheet(dataset, rows)[:4] == b"\x89PNG"
    monkeypatch.setitem(sys.modules, "av", None)
    assert view_page(dataset, rows).count("data:image/jpeg") == 4


def test_commands_for_images_refuse_videos(folder: Path, tmp_path: Path) -> None:
    opened = open_source(f"video_folder:{folder}")
    with pytest.raises(RecipeError, match="has videos, but the format coco is for images"):
        export_samples([opened], "coco", tmp_path / "out", quarantine=tmp_path / "q")
    refuse_videos([open_source("scenes:train,count=1")], "nothing")
    sample = Sample("v", Video(lambda: numbered(2)), ImageSize(48, 64))
    with pytest.raises(ImageError, match="sample v: expected an image, got a video"):
        pixels_of(sample, lambda _: np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(BadRecord, match="is of a video, which has no instances"):
        image_fields(sample, opened)
    with pytest.raises(BenchmarkError, match="example e: is about a video, expected an image"):
        Example("e", sample, ("What is it?",)).fingerprint()
    for make in (
        lambda: SalientPlan((opened,), {"name": "nobody"}),
        lambda: BootstrapPlan((opened,), model={"name": "nobody"}),
    ):
        with pytest.raises(RecipeError, match="has videos, but describing"):
            make()
