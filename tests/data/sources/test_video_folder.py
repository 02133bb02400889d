from pathlib import Path
from typing import Any

import pytest
from data.sources.reading import codes, collect, samples, write_lines
from moving import numbered, write_gif, write_video

from deixis.data.sources.video_folder import open_video_folder
from deixis.errors import AnnotationError
from deixis.structures import QuestionAnswer, Video

GOOD: dict[str, Any] = {"video": "street/one.mp4", "captions": ["A man crosses."]}


def _videos(root: Path) -> Path:
    write_video(root / "videos" / "street" / "one.mp4", numbered(4))
    write_gif(root / "videos" / "two.gif", numbered(3))
    return root


def test_lines_of_one_video_add_up(tmp_path: Path) -> None:
    lines = [
        {**GOOD, "id": 7, "split": "val"},
        {"video": "two.gif", "questions": [{"question": "Who?", "answer": "A cat."}]},
        {**GOOD, "captions": ["Cars wait."], "id": "7", "split": "val"},
    ]
    write_lines(_videos(tmp_path) / "captions.jsonl", lines)
    read = samples(open_video_folder(tmp_path, split="test"))
    assert list(read) == ["street/one.mp4", "two.gif"]
    first, second = read.values()
    assert (first.id, first.split) == ("video_folder/7", "val")
    assert {one.text for one in first.captions} == {"A man crosses.", "Cars wait."}
    assert first.image == Video(tmp_path / "videos" / "street" / "one.mp4", 4, 0.4)
    assert (second.id, second.split) == ("video_folder/two.gif", "test")
    assert second.questions == (QuestionAnswer("Who?", "A cat."),)


def test_a_table_gives_the_same_samples(tmp_path: Path) -> None:
    rows = (
        "video,caption,question,answer,id,split",
        'street/one.mp4,"A man, in red, crosses.",,,7,val',
        'street/one.mp4,,Where to?,"Home, he says ""now"".",7,val',
        "",
    )
    path = _videos(tmp_path) / "captions.csv"
    for start in ("", "\ufeff"):
        path.write_text(start + "\r\n".join(rows), encoding="utf-8")
        (sample,) = samples(open_video_folder(path)).values()
        assert [one.text for one in sample.captions] == ["A man, in red, crosses."]
        assert sample.questions == (QuestionAnswer("Where to?", 'Home, he says "now".'),)
        assert (sample.id, sample.split) == ("video_folder/7", "val")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ([1], "bad_record"),
        ({"captions": ["a"]}, "bad_record"),
        ({**GOOD, "captions": "a"}, "bad_record"),
        ({**GOOD, "captions": [1]}, "bad_record"),
        ({**GOOD, "captions": [""]}, "bad_text"),
        ({**GOOD, "captions": []}, "bad_text"),
        ({**GOOD, "caption": "a"}, "bad_record"),
        ({**GOOD, "questions": ["a?"]}, "bad_record"),
        ({**GOOD, "questions": [{"question": "a?"}]}, "bad_record"),
        ({**GOOD, "questions": [{"question": "a?", "answer": "b", "c": 1}]}, "bad_record"),
        ({**GOOD, "id": [1]}, "bad_number"),
        ({**GOOD, "split": 3}, "bad_record"),
        ({**GOOD, "video": "../one.mp4"}, "path_escape"),
        ({**GOOD, "video": "/etc/passwd"}, "path_escape"),
        ({**GOOD, "video": "none.mp4"}, "video_missing"),
        ({**GOOD, "video": "street"}, "not_regular_file"),
        ({**GOOD, "video": "text.mp4"}, "video_unreadable"),
    ],
)
def test_an_invalid_line_is_listed(tmp_path: Path, line: Any, code: str) -> None:
    write_lines(_videos(tmp_path) / "captions.jsonl", [line])
    (tmp_path / "videos" / "text.mp4").write_text("no video")
    readings = collect(open_video_folder(tmp_path))
    assert codes(readings) == {code: 1}
    assert all(reading.sample is None for reading in readings.values())


def test_a_problem_leaves_the_other_lines(tmp_path: Path) -> None:
    lines = [GOOD, GOOD, {**GOOD, "captions": [3]}]
    write_lines(_videos(tmp_path) / "captions.jsonl", lines)
    (reading,) = collect(open_video_folder(tmp_path)).values()
    assert [one.code for one in reading.problems] == ["duplicate_annotation", "bad_record"] or [
        one.code for one in reading.problems
    ] == ["bad_record", "duplicate_annotation"]
    assert reading.sample is not None
    write_lines(tmp_path / "captions.jsonl", [GOOD, {**GOOD, "id": "x"}])
    assert codes(collect(open_video_folder(tmp_path))) == {"bad_record": 1}


def test_invalid_rows_are_listed(tmp_path: Path) -> None:
    rows = [
        "video,caption,question,answer",
        *("two.gif,A cat.,,", "two.gif,A cat.", 'two.gif,"A cat.,,', "two.gif,,What?,"),
        *(",A cat.,,", "two.gif,,,", f"two.gif,{'a' * 100_001},,"),
    ]
    path = _videos(tmp_path) / "captions.csv"
    path.write_text("\n".join(rows))
    with path.open("ab") as file:
        file.write(b"\ntwo.gif,caf\xe9,,\n")
    readings = collect(open_video_folder(tmp_path))
    assert codes(readings) == {"bad_record": 4, "bad_text": 2, "bad_encoding": 1}
    sample = readings["two.gif"].sample
    assert sample is not None
    assert [one.text for one in sample.captions] == ["A cat."]


@pytest.mark.parametrize(
    "head", ["", "caption", "video,video", "video,words", "video,question", 'video,"caption']
)
def test_a_table_whose_columns_are_not_named_is_refused(tmp_path: Path, head: str) -> None:
    path = tmp_path / "captions.csv"
    path.write_text(f"{head}\na,b,c\n")
    with pytest.raises(AnnotationError, match=r"captions\.csv: (columns|line 1)"):
        list(open_video_folder(path).parts())


def test_the_file_is_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"expected captions\.jsonl or captions\.csv"):
        open_video_folder(tmp_path)
    other = tmp_path / "captions.txt"
    other.write_text("a")
    with pytest.raises(AnnotationError, match=r"expected a file called \.jsonl or \.csv"):
        open_video_folder(other)
