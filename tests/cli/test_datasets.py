"""``deixis data tasks|sources|build|check|report|view``."""

import json
from pathlib import Path

import pytest
from annotated import bytes_of, line, write_lines
from command import Run
from PIL import Image

from deixis.data.tasks import TASKS
from deixis.notation import NOTATIONS


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    for number in range(12):
        Image.new("RGB", (200, 100), (20 * number, 90, 90)).save(tmp_path / f"{number:06d}.png")
    return write_lines(tmp_path / "mine.jsonl", [line(number) for number in range(12)])


def test_tasks_and_sources_print_themselves(deixis: Run) -> None:
    listed = json.loads(deixis("data", "tasks", "--json").out)
    assert [task["name"] for task in listed["tasks"]] == list(TASKS)
    assert "pointing" in listed["mixtures"]
    assert "rec " in deixis("data", "tasks").out
    formats = json.loads(deixis("data", "sources", "--json").out)
    assert {"coco", "jsonl", "scenes"} <= set(formats)


def test_a_data_set_is_built_checked_reported_and_shown(
    deixis: Run, tmp_path: Path, mine: Path
) -> None:
    out = tmp_path / "out"
    ended = deixis(
        "data", "build", "pointing", "--source", f"jsonl:{mine}", "--out", out, "--workers", 1
    )
    assert ended.code == 0, ended.err
    assert "12 images, 12 used" in ended.out
    assert deixis("data", "check", out, "--quick").out.strip().endswith("whole")
    page, sheet = tmp_path / "report.html", tmp_path / "sheet.png"
    report = json.loads(deixis("data", "report", out, "--html", page, "--json").out)
    assert report["images"] == 12
    assert report["left_out"]["jsonl"]["quarantined"] == 0
    assert sum(report["tasks"].values()) == report["turns"]
    text = page.read_text()
    assert "data:image/jpeg" in text
    assert "&lt;REF&gt;" in text
    assert "<REF>" not in text
    ended = deixis(
        "data", "view", out, "--out", sheet, "--png", "--task", "detection", "--count", 4
    )
    assert ended.code == 0
    with Image.open(sheet) as picture:
        assert picture.width > 1000
    view = tmp_path / "view.html"
    assert deixis("data", "view", out, "--out", view, "--count", 5).code == 0
    assert view.read_text().count('class="card"') == 5
    assert all(f"<b>{name}</b>" in view.read_text() for name in NOTATIONS)


def test_hostile_names_are_text_on_every_page(deixis: Run, tmp_path: Path, mine: Path) -> None:
    hostile = "\"><script>alert('x')</script>"
    write_lines(mine, [line(1, id=hostile, questions=[{"question": hostile, "answer": "no"}])])
    out, page = tmp_path / "<img src=x onerror=alert()>", tmp_path / "page.html"
    built = deixis("data", "build", "vqa", "--source", f"jsonl:{mine}", "--out", out)
    assert built.code == 0, built.err
    for command in (("report", out, "--html", page), ("view", out, "--out", page)):
        assert deixis("data", *command).code == 0
        text = page.read_text()
        assert text.count("<script>") == 1
        assert "<img src=x" not in text
        assert "&lt;img src=x onerror=alert()&gt;" in text
        assert "&gt;&lt;script&gt;alert(&#39;x&#39;)" in text


def test_a_build_goes_on_and_changes_nothing(deixis: Run, tmp_path: Path, mine: Path) -> None:
    arguments = (
        "data",
        "build",
        "rec,caption",
        "--source",
        f"jsonl:{mine}",
        "--out",
        tmp_path / "out",
    )
    assert deixis(*arguments, "--workers", 1).code == 0
    before = bytes_of(tmp_path / "out")
    assert deixis(*arguments, "--workers", 2).code == 0
    assert bytes_of(tmp_path / "out") == before
    ended = deixis(*arguments, "--seed", 3)
    assert ended.code == 2
    assert "another build" in ended.err


def test_drawn_scenes_are_a_source(deixis: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = deixis(
        *(
            "data",
            "build",
            "rec,gcg,depth,keypoint",
            "--source",
            "scenes:train,count=5,level=plain",
        ),
        *("--out", out, "--workers", 1, "--json"),
    )
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["sources"]["scenes"]["images"] == 5
    assert deixis("data", "view", out, "--out", tmp_path / "v.html", "--count", 3).code == 0
    assert deixis("data", "check", out).code == 0


PINK_FAMILIES = {
    "relation": ("relation", "relation_object_box", "relation_object_class"),
    "quadrant": ("quadrant_box", "quadrant_class", "quadrant_both"),
    "counting": ("count_words", "count_example"),
    "detection": ("detection", "detection_example"),
    "grounding": ("rec", "reg_box"),
}


def test_pinks_mixture_of_visual_genome_has_every_family(deixis: Run, tmp_path: Path) -> None:
    genome = tmp_path / "genome"
    drawn = ("--split", "val", "--count", 40, "--seed", 3)
    ended = deixis("data", "scenes", "--format", "visual_genome", "--out", genome, *drawn)
    assert ended.code == 0, ended.err

    def families(*options: str) -> tuple[dict[str, int], str]:
        out = tmp_path / f"out{len(options)}"
        source = ("--source", f"visual_genome:{genome}")
        told = deixis("data", "build", "pink", *source, "--out", out, "--workers", 1, *options)
        assert told.code == 0, told.err
        made = json.loads((out / "manifest.json").read_text())["tasks"]
        counts = {
            family: sum(made.get(name, 0) for name in names)
            for family, names in PINK_FAMILIES.items()
        }
        return counts, told.err

    counts, told = families("--rules", "pink")
    assert min(counts.values()) >= 3, counts
    # what the source has nothing for is said, and needs no option
    assert "no image gave a question of" in told
    assert "hint" not in told
    counts, told = families()
    assert {family for family, count in counts.items() if not count} == {
        *("quadrant", "counting", "detection")
    }
    assert f"hint: visual_genome:{genome},exhaustive=true takes its instances as complete" in told


def test_wordings_of_ones_own_are_used(deixis: Run, tmp_path: Path, mine: Path) -> None:
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"caption": ["Tell me of this picture."]}))
    out = tmp_path / "out"
    ended = deixis(
        *("data", "build", "caption", "--source", f"jsonl:{mine}", "--out", out),
        *("--wordings", words, "--workers", 1),
    )
    assert ended.code == 0, ended.err
    page = tmp_path / "v.html"
    deixis("data", "view", out, "--out", page, "--count", 3)
    assert "sha256" in (out / "manifest.json").read_text()
    assert json.loads((out / "plan.json").read_text())["wordings"]


def test_check_says_what_is_wrong_and_where(deixis: Run, tmp_path: Path, mine: Path) -> None:
    assert deixis("data", "check", mine).code == 0
    bad: list[dict[str, object] | str] = [line(1), line(2, width="wide"), line(77), '{"image"']
    path = write_lines(tmp_path / "bad.jsonl", bad)
    ended = deixis("data", "check", path)
    assert ended.code == 3
    assert "bad.jsonl: line 2" in ended.out
    assert "image_missing" in ended.out
    assert "bad.jsonl: line 4" in ended.out
    found = json.loads(deixis("data", "check", path, "--quick", "--json").out)
    assert found["faults"] == {"bad_number": 1, "image_missing": 1, "bad_json": 1}
    assert found["sound_images"] == 1


def test_check_decodes_the_pictures_unless_it_has_to_be_quick(
    deixis: Run, tmp_path: Path, mine: Path
) -> None:
    out = tmp_path / "out"
    built = deixis(
        *("data", "build", "rec", "--source", f"jsonl:{mine}", "--out", out, "--workers", 1)
    )
    assert built.code == 0, built.err
    ended = deixis("data", "check", out)
    assert (ended.code, "12 pictures, 12 without problems" in ended.out) == (0, True)
    whole = (tmp_path / "000004.png").read_bytes()
    (tmp_path / "000004.png").write_bytes(whole[: len(whole) - 30])
    # the header is sound
    assert deixis("data", "check", mine, "--quick").code == 0
    ended = deixis("data", "check", mine)
    assert ended.code == 3
    assert "image_unreadable: 1" in ended.out
    assert "000004.png" in ended.out
    (tmp_path / "000005.png").unlink()
    Image.new("RGB", (100, 200)).save(tmp_path / "000006.png")
    assert deixis("data", "check", out, "--quick").code == 0
    ended = deixis("data", "check", out, "--json")
    assert ended.code == 7
    found = json.loads(ended.out)
    assert (found["pictures"], found["sound_pictures"]) == (12, 9)
    assert found["faults"] == {"image_unreadable": 1, "image_missing": 1, "size_mismatch": 1}
    assert found["examples"]["image_missing"] == ["jsonl/000005.png: 000005.png: no such file"]
    assert found["examples"]["size_mismatch"] == [
        "jsonl/000006.png: built as 200x100, it is 100x200"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nonsense", "--source", "scenes:train,count=2"), 2, "expected one of"),
        (("rec,rec", "--source", "scenes:train,count=2"), 2, "each task once"),
        (("rec*0", "--source", "scenes:train,count=2"), 2, "rate"),
        (("rec", "--source", "coco"), 2, "FORMAT:PATH"),
        (("rec", "--source", "tfrecord:x"), 2, "expected FORMAT"),
        (("rec", "--source", "coco:/nowhere"), 2, "/nowhere"),
        (("rec", "--source", "scenes:train,count=many"), 2, "whole number"),
        (("rec", "--source", "scenes:train,colour=red"), 2, "scenes take"),
        (("rec", "--source", "coco:x,orientation=sideways"), 2, "expected"),
        (("rec", "--source", "scenes:train,count=2", "--wordings", "/nowhere.json"), 2, "nowhere"),
    ],
)
def test_wrong_usage_is_told_in_a_line(
    deixis: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ended = deixis("data", "build", *arguments, "--out", tmp_path / "out")
    assert ended.code == code
    assert words in ended.err
    assert "Traceback" not in ended.err


def test_an_output_that_is_in_use_is_left_alone(deixis: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    ended = deixis(
        "data", "build", "rec", "--source", "scenes:train,count=2", "--out", tmp_path / "out"
    )
    assert ended.code == 4
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_too_many_problems_end_with_three(deixis: Run, tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "bad.jsonl", [line(number, width="wide") for number in range(120)]
    )
    ended = deixis(
        "data",
        "build",
        "rec",
        "--source",
        f"jsonl:{path}",
        "--out",
        tmp_path / "out",
        "--workers",
        1,
    )
    assert ended.code == 3
    assert "bad_number" in ended.err
    assert deixis("data", "report", tmp_path / "out").code == 2
