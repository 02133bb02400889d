"""Questions asked while pointing."""

from pathlib import Path

from data.sources.pictures import picture
from data.sources.reading import codes, collect, samples, write_json, write_lines

from deixis.data.sources.pointqa import open_pointqa
from deixis.geometry import Point


def test_local_questions_have_an_answer_for_each_place(tmp_path: Path) -> None:
    entry = {
        "id": 12,
        "question": "What color is the shirt?",
        "all_ans": ["red", "blue"],
        "all_objs": [{"x": 1, "y": 1, "w": 4, "h": 4, "names": ["shirt"]}],
        "points": [{"x": 3, "y": 4, "ans": "red"}, {"x": 30, "y": 40, "ans": "blue"}],
    }
    write_json(tmp_path / "localqa_dataset.json", {"12": [entry]})
    picture(tmp_path / "VG_100K_2" / "12.jpg")
    (sample,) = samples(open_pointqa(tmp_path / "localqa_dataset.json")).values()
    asked = [(one.question, one.answer, one.region) for one in sample.questions]
    assert asked == [
        ("What color is the shirt?", "red", Point(3, 4)),
        ("What color is the shirt?", "blue", Point(30, 40)),
    ]
    assert sample.image == tmp_path / "VG_100K_2" / "12.jpg"
    assert {one.kind for one in sample.questions} == {"region"}


def test_looking_twice_asks_in_every_wording(tmp_path: Path) -> None:
    entry = {
        "id": 12,
        "obj_question": "How many of these cups are there?",
        "super_question": "How many of these objects are there?",
        "general_question": "How many of these are there?",
        "point": {"x": 3, "y": 4, "ans": "2"},
        "ans": 2,
        "qtype": "howmany",
    }
    write_json(tmp_path / "looktwiceqa.json", {"12": [entry]})
    picture(tmp_path / "12.jpg")
    (sample,) = samples(open_pointqa(tmp_path / "looktwiceqa.json")).values()
    assert [one.answer for one in sample.questions] == ["2", "2", "2"]
    assert {one.region for one in sample.questions} == {Point(3, 4)}


def test_lines_name_their_image(tmp_path: Path) -> None:
    row = {"question": "What is it?", "answer": "cup", "point": [3, 4], "bbox": [1, 1, 9, 9]}
    rows = [
        {**row, "file_path": "images/VG_100K/1.jpg"},
        {**row, "genome_id": "2"},
        row,
        {**row, "genome_id": "2", "point": [3, 400]},
    ]
    write_lines(tmp_path / "pointQA_local_train.jsonl", rows)
    picture(tmp_path / "images" / "VG_100K" / "1.jpg")
    picture(tmp_path / "images" / "VG_100K" / "2.jpg")
    readings = collect(open_pointqa(tmp_path / "pointQA_local_train.jsonl"))
    assert codes(readings) == {"bad_record": 1, "box_outside": 1}
    assert set(readings) == {"", "2.jpg", "images/VG_100K/1.jpg"}
    assert all(one.sample.questions for key, one in readings.items() if key and one.sample)


def test_hostile_records_are_problems(tmp_path: Path) -> None:
    asked = {"question": "What?", "answer": "cup"}
    records = [
        {**asked, "point": {"x": float("nan"), "y": 1}},
        {**asked, "point": {"x": True, "y": 1}},
        {**asked, "point": [1, 2, 3]},
        {**asked, "points": [{"x": 1, "y": 1}]},
        {"answer": "cup", "point": [1, 1]},
        {"question": "What?", "point": [1, 1]},
        "record",
        {**asked, "point": [1, 1]},
    ]
    write_json(tmp_path / "local.json", {"1": records, "2": "records", "../3": []})
    picture(tmp_path / "1.jpg")
    picture(tmp_path / "2.jpg")
    readings = collect(open_pointqa(tmp_path / "local.json"))
    assert codes(readings) == {"bad_number": 2, "bad_record": 6, "path_escape": 1}
    sample = readings["1.jpg"].sample
    assert sample is not None
    assert len(sample.questions) == 1
