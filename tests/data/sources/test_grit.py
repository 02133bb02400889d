"""Captions of GRIT."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_lines

from deixis.data.sources.grit import open_grit
from deixis.errors import AnnotationError
from deixis.geometry import Box


def _row(key: str, **more: Any) -> dict[str, Any]:
    return {
        "key": key,
        "clip_similarity_vitb32": 0.35,
        "id": 1795296605919,
        "url": "https://example.com/a.jpg",
        "caption": "a wire hanger with a paper cover",
        "width": 1024,
        "height": 693,
        "noun_chunks": [
            [19, 32, 0.0, 0.5, 0.75, 1.0, 0.79],
            [0, 13, 0.25, 0.0, 1.0, 1.0, 0.67],
            [0, 13, 0.0, 0.0, 0.5, 0.5, 0.66],
        ],
        "ref_exps": [[0, 32, 0.25, 0.0, 1.0, 1.0, 0.67]],
        **more,
    }


def test_parquet_and_json_lines_give_the_same_samples(tmp_path: Path) -> None:
    rows = [_row("000373938"), _row("000373939", ref_exps=[])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "coyo_0_snappy.parquet")
    write_lines(tmp_path / "rows.jsonl", rows)
    picture(tmp_path / "images" / "00037" / "000373938.jpg")
    picture(tmp_path / "images" / "000373939.jpg")
    found = samples(open_grit(tmp_path / "coyo_0_snappy.parquet"))
    assert found == samples(open_grit(tmp_path / "rows.jsonl"))
    assert found == samples(open_grit(tmp_path))
    sample = found["000373938.jpg"]
    (caption,) = sample.captions
    assert [phrase.text for phrase in caption.phrases] == ["a wire hanger", "a paper cover"]
    assert caption.phrases[0].boxes == (Box(16, 0, 64, 48), Box(0, 0, 32, 24))
    assert caption.phrases[1].boxes == (Box(0, 24, 48, 48),)
    (expression,) = sample.expressions
    assert expression.text == "a wire hanger with a paper cover"
    assert sample.instances[expression.instances[0]].category == "a wire hanger"
    assert len(sample.instances) == 3


def test_hostile_rows_are_problems(tmp_path: Path) -> None:
    chunks = [
        [0, 6, 0, 0, 0.5, 0.5, 1],
        [0, 99, 0, 0, 0.5, 0.5, 1],
        [-1, 6, 0, 0, 0.5, 0.5, 1],
        [1, 1, 0, 0, 0.5, 0.5, 1],
        [0, 6, 0, 0, 320, 240, 1],
        [0, 6, 0.5, 0, 0.5, 0.5, 1],
        [0, 6, float("nan"), 0, 0.5, 0.5, 1],
        [0, 6, 0, 0, 1.004, 0.5, 1],
        [0, 6, 0, 0, 1.2, 0.5, 1],
        [0, 6],
        "chunk",
        [0.5, 6, 0, 0, 0.5, 0.5, 1],
    ]
    rows = [
        _row("1", noun_chunks=chunks, ref_exps=None),
        _row("2", caption=None),
        _row("3", image="../3.jpg"),
        {"caption": "nameless"},
        _row("5", noun_chunks={}),
    ]
    write_lines(tmp_path / "rows.jsonl", rows)
    for number in (1, 2, 5):
        picture(tmp_path / f"{number}.jpg")
    readings = collect(open_grit(tmp_path / "rows.jsonl"))
    assert codes(readings) == {
        "span_damaged": 3,
        "box_layout": 1,
        "box_degenerate": 1,
        "bad_number": 2,
        "box_outside": 1,
        "bad_record": 4,
        "path_escape": 1,
    }
    assert notes(readings) == {"box_clipped": 1}


def test_rows_that_are_repeated_count_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "rows.jsonl", [_row("1"), _row("1")])
    picture(tmp_path / "1.jpg")
    assert codes(collect(open_grit(tmp_path / "rows.jsonl"))) == {"duplicate_annotation": 1}


def test_a_parquet_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([_row("1")]), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(AnnotationError, match=r"a\.parquet: cannot read"):
        collect(open_grit(tmp_path))
    with pytest.raises(AnnotationError, match="expected Parquet"):
        open_grit(tmp_path / "nowhere")
