import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import bytes_of, line, write_lines
from command import Run
from PIL import Image

from deixis.cli.asking import OpenModel, read_pixels
from deixis.data.bootstrap import BootstrapPlan, Prompts, bootstrap, judge
from deixis.data.bootstrap.grounded_captions import remapped
from deixis.data.bootstrap.round_trip import Question, round_trips, to_expression
from deixis.data.bootstrap.round_trip_worker import read_journal
from deixis.data.scenes import draw_scene
from deixis.data.scenes.describe import Facts, full_description
from deixis.data.sources import named_apart, open_source
from deixis.errors import ImageError, LockedError, RecipeError, StorageError
from deixis.geometry import Box, ImageSize, Mask
from deixis.structures import (
    Answer,
    GroundedPhrase,
    GroundedText,
    ImageArray,
    Reference,
    UnitGroup,
)

SCENES = "scenes:train,count=9,seed=31337,level=standard"


@dataclass
class Oracle:
    """Describes a box by its numbers, and locates it by them; ``moved`` shifts the located box.

    ``dies_at`` counts calls from 1: at that one the process, or the one that started it, is killed.
    """

    moved: float = 0.0
    dies_at: int = 0
    kills_parent: bool = False
    mark: Path | None = None
    calls: int = 0

    def ask_many(self, questions: Sequence[Question], /) -> list[Answer]:
        self.calls += 1
        if self.calls == self.dies_at and (self.mark is None or not self.mark.exists()):
            if self.mark is not None:
                self.mark.touch()
            os.kill(os.getppid() if self.kills_parent else os.getpid(), signal.SIGKILL)
        return [self.answer(image, parts) for image, parts in questions]

    def copy(self) -> "Oracle":
        return self

    def answer(self, image: ImageArray, parts: tuple[Any, ...]) -> Answer:
        size = ImageSize(*image.shape[:2])
        box = next((part for part in parts if isinstance(part, Box)), None)
        if box is not None:
            words = f"A thing at {box.x1} {box.y1} {box.x2} {box.y2}."
            return Answer(GroundedText(words), size)
        numbers = re.findall(r"[\d.]*\d", parts[0])
        if len(numbers) != 4:
            return Answer(GroundedText("A picture."), size)
        x1, y1, x2, y2 = map(float, numbers)
        return pointing("thing", [Box(x1 + self.moved, y1, x2 + self.moved, y2)], size)


def pointing(
    words: str, boxes: Sequence[Box], size: ImageSize, scores: Sequence[float] | None = None
) -> Answer:
    marks: Sequence[float | None] = scores or [None for _ in boxes]
    references = tuple(Reference((box,), score) for box, score in zip(boxes, marks, strict=True))
    phrase = GroundedPhrase(words, 0, len(words), (UnitGroup(("box",), references),))
    return Answer(GroundedText(f"{words}.", (phrase,)), size)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(one) for one in path.read_text(encoding="utf-8").splitlines()]


def blank(path: Path) -> ImageArray:
    with Image.open(path) as image:
        return np.zeros((image.height, image.width, 3), np.uint8)


def plan_of(*specs: str, **options: Any) -> BootstrapPlan:
    sources = tuple(named_apart([open_source(spec) for spec in specs]))
    given: dict[str, Any] = {"batch_size": 4, "block_images": 2, "min_area": None}
    return BootstrapPlan(sources, {"name": "oracle"}, **given | options)


def counts_of(out: Path, asker: Oracle, *specs: str, **options: Any) -> dict[str, Any]:
    plan = plan_of(*(specs or (SCENES,)), **options)
    result = bootstrap(plan, out, open_model=lambda: asker, read=blank)
    (counts,) = result.manifest["sources"].values()
    return dict(counts)


def test_a_perfect_model_keeps_all_descriptions_with_the_true_boxes(tmp_path: Path) -> None:
    counts = counts_of(tmp_path / "out", Oracle())
    assert counts["described"] == counts["kept"] == counts["objects"] > 40
    assert sum(counts["dropped"].values()) == 0
    source = open_source(SCENES).source
    truth = [source.sample(part.key, [part]).sample for part in source.parts()]  # type: ignore[list-item, union-attr]
    read = open_source(f"jsonl:{tmp_path / 'out' / 'data' / 'scenes.jsonl'}").source
    for part, true in zip(read.parts(), truth, strict=True):
        reading = read.sample(part.key, [part])  # type: ignore[list-item, union-attr]
        assert not reading.problems
        assert reading.sample is not None
        assert true is not None
        assert str(reading.sample.image) == str(true.image)
        assert [one.box for one in reading.sample.instances] == [one.box for one in true.instances]
        assert [one.mask for one in reading.sample.instances] == [
            one.mask for one in true.instances
        ]
        for expression in reading.sample.expressions:
            (index,) = expression.instances
            assert expression.text.startswith("thing at")
            assert str(true.instances[index].box.x1) in expression.text


def test_a_model_that_is_always_wrong_keeps_nothing(tmp_path: Path) -> None:
    counts = counts_of(tmp_path / "out", Oracle(moved=1000))
    assert counts["kept"] == 0 < counts["described"] == counts["dropped"]["iou_below"]
    assert counts["iou_of_found"]["counts"][0] == counts["described"]
    assert (tmp_path / "out" / "data" / "scenes.jsonl").read_bytes() == b""
    dropped = lines_of(tmp_path / "out" / "dropped.jsonl")
    assert len(dropped) == counts["described"]
    assert {one["reason"] for one in dropped} == {"iou_below"}


@pytest.mark.parametrize(("iou", "kept"), [(0.5, True), (0.5000001, False), (0.25, True)])
def test_the_iou_threshold_is_inclusive(iou: float, *, kept: bool) -> None:
    # a box of 30 moved by 10: 20 of 40 are shared
    image = np.zeros((50, 90, 3), np.uint8)
    (trip,) = round_trips(
        Oracle(moved=10), [(image, Box(5, 5, 35, 25))], Prompts(), iou=iou, batch_size=2
    )
    assert trip.iou == 0.5
    assert trip.reason == ("" if kept else "iou_below")


@dataclass
class Scripted:
    """Returns the given answers in order."""

    answers: list[Answer]

    def ask_many(self, questions: Sequence[Question], /) -> list[Answer]:
        return [self.answers.pop(0) for _ in questions]


SIZE = ImageSize(40, 60)
HERE, THERE = Box(0, 0, 20, 20), Box(30, 0, 50, 20)


@pytest.mark.parametrize(
    ("described", "located", "reason"),
    [
        (Answer(GroundedText(" . "), SIZE), None, "no_description"),
        (Answer(GroundedText("a\x00b"), SIZE), None, "no_description"),
        (Answer(GroundedText("A cup"), SIZE, finish_reason="length"), None, "cut"),
        (Answer(GroundedText("A cup " * 200), SIZE), None, "cut"),
        (
            Answer(GroundedText("A cup."), SIZE),
            Answer(GroundedText("There is no cup."), SIZE),
            "nothing_found",
        ),
        (Answer(GroundedText("A cup."), SIZE), pointing("cup", [THERE], SIZE), "iou_below"),
        (Answer(GroundedText("A cup."), SIZE), pointing("cup", [HERE, THERE], SIZE), ""),
        (
            Answer(GroundedText("A cup."), SIZE),
            pointing("cup", [HERE, THERE], SIZE, [0.2, 0.9]),
            "iou_below",
        ),
    ],
)
def test_every_dropped_description_has_a_reason(
    described: Answer, located: Answer | None, reason: str
) -> None:
    asker = Scripted([one for one in (described, located) if one is not None])
    image = np.zeros((40, 60, 3), np.uint8)
    (trip,) = round_trips(asker, [(image, HERE)], Prompts(), iou=0.5, batch_size=1)
    assert trip.reason == reason
    assert asker.answers == []


def test_a_mask_counts_as_the_box_around_it() -> None:
    array = np.zeros((40, 60), bool)
    array[:20, :20] = True
    phrase = GroundedPhrase(
        "cup", 4, 7, (UnitGroup(("mask",), (Reference((None,)), Reference((Mask(array),)))),)
    )
    found = Answer(GroundedText("The cup.", (phrase,)), SIZE)
    asker = Scripted([Answer(GroundedText("A cup."), SIZE), found])
    image = np.zeros((40, 60, 3), np.uint8)
    (trip,) = round_trips(asker, [(image, HERE)], Prompts(), iou=1.0, batch_size=1)
    assert (trip.reason, trip.found, trip.num_found) == ("", HERE, 1)


@pytest.mark.parametrize(
    ("description", "expression"),
    [
        ("A small red circle.", "small red circle"),
        ("The TV.", "TV"),
        ("Red cup on a table. It is full.", "red cup on a table"),
        ("A U-turn sign", "U-turn sign"),
        ("", ""),
        ("...", ""),
    ],
)
def test_a_description_becomes_a_noun_phrase(description: str, expression: str) -> None:
    assert to_expression(description) == expression


def test_filters_skip_crowds_small_boxes_and_crowded_images(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    boxes: list[list[float]] = [[0, 0, 50, 40], [0, 0, 50, 40.02], [5, 5, 90, 90]]
    lines = [
        line(
            number,
            image="a.png",
            objects=[
                # each box is one pixel further, as equal boxes count as one instance
                {
                    "category": "cup",
                    "box": [box[0] + place, box[1], box[2] + place, box[3]],
                    "crowd": place == 2,
                }
                for place, box in enumerate(boxes * times)
            ],
            expressions=[],
            questions=[],
            relations=[],
        )
        for number, times in ((0, 1), (1, 5), (2, 6))
    ]
    spec = f"jsonl:{write_lines(tmp_path / 'lines.jsonl', lines)}"
    counts = counts_of(tmp_path / "a", Oracle(), spec, min_area=2000.0)
    assert counts["image_fates"] == {"asked": 2, "too_many_objects": 1}
    assert counts["not_described"] == {
        "crowd": 2,
        "in_images_of_too_many": 18,
        "too_small": 6,
    }
    assert (counts["objects"], counts["described"]) == (36, 10)
    counts = counts_of(tmp_path / "b", Oracle(), spec, min_area=None, max_objects=None)
    assert (counts["objects"], counts["described"]) == (36, 33)


def test_unreadable_images_are_quarantined(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    made: list[dict[str, Any] | str] = [line(0, image=name) for name in ("a.png", "b.png", "c.png")]
    for number, one in enumerate(made):
        assert isinstance(one, dict)
        one["id"] = f"image-{number}"
    spec = f"jsonl:{write_lines(tmp_path / 'lines.jsonl', [*made, '{'])}"

    def read(path: Path) -> ImageArray:
        if path.name == "b.png":
            raise ImageError("b.png: damaged")
        return blank(path)

    plan = plan_of(spec)
    result = bootstrap(plan, tmp_path / "out", open_model=Oracle, read=read)
    counts = result.manifest["sources"]["jsonl"]
    assert counts["image_fates"] == {"asked": 1, "quarantined": 2}
    problems = lines_of(tmp_path / "out" / "quarantine.jsonl")
    assert sorted(one["code"] for one in problems) == [
        "bad_json",
        "image_missing",
        "image_unreadable",
    ]
    assert counts["kept"] == 1


def test_grounded_captions_get_true_boxes() -> None:
    text = "A cup, two plates and a fork by a wall."

    def phrase(words: str, *boxes: Box) -> GroundedPhrase:
        start = text.index(words)
        group = UnitGroup(("box",), tuple(Reference((box,)) for box in boxes))
        return GroundedPhrase(words, start, start + len(words), (group,))

    truth = [HERE, THERE, Box(0, 25, 20, 40)]
    answer = Answer(
        GroundedText(
            text,
            (
                phrase("cup", Box(1, 0, 21, 20)),
                # both boxes belong to one instance
                phrase("plates", THERE, Box(31, 0, 51, 20)),
                phrase("fork", Box(0, 25, 20, 39), HERE),
                phrase("wall", Box(25, 30, 30, 35)),
            ),
        ),
        SIZE,
    )
    assert remapped(answer, truth, iou=0.5) == {
        "text": text,
        "phrases": [
            {"start": 2, "end": 5, "objects": [0]},
            {"start": text.index("fork"), "end": text.index("fork") + 4, "objects": [2, 0]},
        ],
    }
    assert remapped(pointing("cup", [Box(0, 10, 20, 20)], SIZE), [HERE], iou=0.5) is None
    assert remapped(pointing("cup", [HERE], SIZE), [], iou=0.5) is None


def test_captions_record_their_model(tmp_path: Path) -> None:
    counts = counts_of(tmp_path / "out", Oracle(), captions=True)
    assert counts["captions"] == 9
    first = lines_of(tmp_path / "out" / "data" / "scenes.jsonl")[0]
    (caption,) = first["captions"]
    assert caption["text"] == "A picture."
    assert caption["provenance"]["model"] == {"name": "oracle"}
    provenance = first["expressions"][0]["provenance"]
    assert provenance["prompts"] == ["What is <region>?", "Where {is} {x}?"]
    assert (provenance["threshold"], provenance["iou"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"iou": 0.6}, "holds the output of another plan"),
        ({"prompts": Prompts(describe="Describe <region>.")}, "holds the output of another plan"),
    ],
)
def test_a_folder_belongs_to_one_plan(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    spec = "scenes:train,count=1"
    first = counts_of(tmp_path / "out", Oracle(), spec)
    # a finished run asks nothing again
    assert counts_of(tmp_path / "out", Oracle(dies_at=1), spec) == first
    with pytest.raises(RecipeError, match=words):
        counts_of(tmp_path / "out", Oracle(), spec, **change)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(StorageError, match="is not empty"):
        counts_of(tmp_path, Oracle())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Prompts(describe="What is this?"), "expected <region> once"),
        (lambda: Prompts(locate="Where is it?"), r"expected \{x\} once"),
        (lambda: Prompts(locate="Where {is} {x} of {y}?"), r"expected \{x\} once"),
        (lambda: Prompts(caption=" "), "a prompt is empty"),
        (lambda: plan_of(SCENES, iou=1.5), "iou 1.5: expected 0 to 1"),
        (lambda: plan_of(SCENES, max_objects=0), "max_objects 0"),
        (lambda: plan_of(SCENES, min_area=-1.0), "min_area -1.0"),
        (lambda: plan_of(SCENES, limit=0), "expected a batch size and a limit"),
        (lambda: plan_of("scenes:train,name=a/b"), "source 'a/b': expected a name"),
        (lambda: BootstrapPlan((open_source(SCENES),), {}), "lacks its name"),
    ],
)
def test_invalid_plans_are_refused(make: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make()


def test_a_limit_takes_the_first_images(tmp_path: Path) -> None:
    counts_of(tmp_path / "all", Oracle())
    counts = counts_of(tmp_path / "some", Oracle(), limit=5)
    assert counts["image_fates"] == {"asked": 5}
    whole = (tmp_path / "all" / "data" / "scenes.jsonl").read_bytes().splitlines()
    assert (tmp_path / "some" / "data" / "scenes.jsonl").read_bytes().splitlines() == whole[:5]


def run(out: Path, *arguments: object) -> int:
    """Bootstrap the scenes in another process; see `main` for the arguments."""
    command = [sys.executable, __file__, str(out), *map(str, arguments)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(  # noqa: S603  # our own interpreter and this file
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False
    )
    assert ended.returncode in {0, -signal.SIGKILL}, ended.stderr.decode()
    return ended.returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the bytes of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    counts_of(out, Oracle())
    return bytes_of(out)


@pytest.mark.slow
def test_a_killed_run_continues_with_the_same_bytes(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    for call in (6, 2, 9, 5):
        assert run(out, 1, call) == -signal.SIGKILL
        assert not (out / "manifest.json").exists()
        journals = sorted((out / ".build").glob("journal-*.jsonl"))
        with journals[-1].open("ab") as file:
            file.write(b'{"image":1,"source":"sce')
    assert run(out, 1, 0) == 0
    assert bytes_of(out) == whole


@pytest.mark.slow
def test_killed_workers_and_their_number_do_not_change_the_bytes(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    assert run(tmp_path / "two", 2, 0) == 0
    assert bytes_of(tmp_path / "two") == whole
    # kill one worker, which is started again
    assert run(tmp_path / "worker", 2, 3, tmp_path / "mark") == 0
    assert (tmp_path / "mark").exists()
    assert bytes_of(tmp_path / "worker") == whole
    # kill the parent; the workers end by themselves
    assert run(tmp_path / "parent", 2, 3, "", "parent") == -signal.SIGKILL
    assert run(tmp_path / "parent", 3, 0) == 0
    assert bytes_of(tmp_path / "parent") == whole


def test_only_the_lost_lines_of_a_group_are_added_again(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"

    class Ended(Exception):  # noqa: N818
        pass

    class Impatient(Oracle):
        def ask_many(self, questions: Sequence[Question], /) -> list[Answer]:
            if self.calls == 6:
                raise Ended
            return super().ask_many(questions)

    with pytest.raises(Ended):
        counts_of(out, Impatient())
    journal = out / ".build" / "journal-000000.jsonl"
    kept = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"not a line\n" + kept[1] + kept[0][:-20])
    assert set(read_journal(journal)) == {1}
    assert journal.read_bytes().endswith(kept[1])
    counts_of(out, Oracle())
    assert bytes_of(out) == whole


def test_a_folder_is_locked_during_a_run(tmp_path: Path) -> None:
    class Nosy(Oracle):
        def ask_many(self, questions: Sequence[Question], /) -> list[Answer]:
            with pytest.raises(LockedError):
                counts_of(tmp_path / "out", Oracle())
            return super().ask_many(questions)

    counts_of(tmp_path / "out", Nosy(), "scenes:train,count=1")


@pytest.mark.parametrize("level", ["plain", "standard", "hard"])
def test_the_judge_accepts_true_descriptions(level: str) -> None:
    for number in range(30):
        facts = Facts(draw_scene(7, number, level=level, split="train"))
        words = [full_description(facts, index) for index in range(facts.count)]
        for index, description in enumerate(words):
            verdict = judge(facts, index, f"A {description}.")
            assert verdict.is_read
            assert verdict.is_true
            if words.count(description) > 1:
                assert not verdict.is_alone
            for other in range(facts.count):
                if facts.things[other].name != facts.things[index].name:
                    assert not judge(facts, other, description).is_true


def test_the_judge_does_not_read_unknown_words() -> None:
    facts = Facts(draw_scene(7, 0, level="plain", split="train"))
    for words in ("", "A large thing.", "A shiny circle.", "A red circle on the left.", "Red."):
        assert not judge(facts, 0, words).is_read
    for words in ("A person in a shirt.", "A person in a mauve shirt.", "A person holding a cow."):
        assert not judge(facts, 0, words).is_read
    assert judge(facts, 0, "A big dotted shape").is_read
    assert judge(facts, 0, "A person in a dotted shirt wearing a hat").is_read


@pytest.mark.slow
def test_a_build_reads_the_output_of_a_real_model(deixis: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--min-area", 0, "--captions", "--batch-size", 8, "--out", out]
    spec = "scenes:train,count=6,seed=31337,level=plain"
    ended = deixis("data", "bootstrap", "scenes-tiny", "--source", spec, *options)
    assert ended.code == 0
    assert "kept " in ended.out
    counts = json.loads((out / "manifest.json").read_text())["sources"]["scenes"]
    # a model that was trained on such scenes is mostly right
    assert counts["kept"] > counts["described"] / 2
    kept = next(one for one in ended.err.splitlines() if one.startswith("kept: "))
    built = deixis(
        *("data", "build", "rec,reg_box,gcg,caption", "--source", kept.removeprefix("kept: ")),
        *("--workers", 1, "--json", "--out", tmp_path / "built"),
    )
    assert built.code == 0
    manifest = json.loads(built.out)
    assert manifest["quarantine"]["rows"] == 0
    assert {"rec", "reg_box", "caption"} <= set(manifest["tasks"])
    assert manifest["tasks"]["rec"] == manifest["sources"]["scenes"]["images"]


@pytest.mark.slow
def test_a_real_model_gives_the_same_bytes_on_two_processes(tmp_path: Path) -> None:
    plan = plan_of("scenes:train,count=4,seed=31337,level=plain", min_area=4000.0)
    opener = OpenModel("scenes-tiny")
    for workers in (1, 2):
        out = tmp_path / str(workers)
        bootstrap(plan, out, open_model=opener, read=read_pixels, workers=workers)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--iou", "2"], "--iou"),
        (["--describe", "What?"], "expected <region> once"),
        (["--source", "nope:x"], "source 'nope:x'"),
    ],
)
def test_the_command_refuses_invalid_options(
    deixis: Run, tmp_path: Path, options: list[str], words: str
) -> None:
    source = ["--source", "scenes:train,count=1"]
    ended = deixis("data", "bootstrap", "scenes-tiny", *source, *options, "--out", tmp_path / "out")
    assert ended.code == 2
    assert words in ended.err
    assert not (tmp_path / "out").exists()


def main(out: str, workers: str, dies_at: str, mark: str = "", who: str = "") -> None:
    """Bootstrap the scenes; die at call number ``dies_at`` if it is given."""
    asker = Oracle(dies_at=int(dies_at), kills_parent=bool(who), mark=Path(mark) if mark else None)
    bootstrap(plan_of(SCENES), Path(out), open_model=asker.copy, read=blank, workers=int(workers))


if __name__ == "__main__":
    main(*sys.argv[1:])
