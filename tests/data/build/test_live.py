import itertools
import multiprocessing
import pickle
from pathlib import Path

import pytest
from annotated import line, plan_of, write_lines

from deixis.data.build import BuildPlan, BuiltDataset, LiveDataset, build
from deixis.data.build.live import BLOCK_IMAGES, BUDGET_FROM
from deixis.errors import AnnotationError, BudgetError
from deixis.structures import Conversation

COUNT = BLOCK_IMAGES + 40


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lines")
    return write_lines(folder / "lines.jsonl", [line(number) for number in range(COUNT)])


def _said(conversation: Conversation) -> list[tuple[object, ...]]:
    return [
        (turn.task, str(turn.question), None if turn.answer is None else turn.answer.text)
        for turn in conversation.turns
    ]


def test_an_epoch_equals_a_build_with_its_seed(lines: Path, tmp_path: Path) -> None:
    plan = plan_of(f"jsonl:{lines}", seed=7)
    live = LiveDataset(plan, tmp_path / "index")
    assert live.images == COUNT
    sizes = (BLOCK_IMAGES, 40)
    for epoch in (0, 2):
        build(plan_of(f"jsonl:{lines}", seed=7 + epoch), tmp_path / str(epoch))
        built = {row["id"]: row for row in BuiltDataset(tmp_path / str(epoch)).rows()}
        made = {
            row["id"]: row
            for block, size in enumerate(sizes)
            for image in range(size)
            for row in live.rows(epoch, block, image)
        }
        assert made == built


def test_every_epoch_visits_each_image_once_in_another_order(lines: Path, tmp_path: Path) -> None:
    live = LiveDataset(plan_of(f"jsonl:{lines}"), tmp_path)
    first, second = (
        [live.visit(epoch * COUNT + number).id.rpartition("/")[0] for number in range(COUNT)]
        for epoch in (0, 1)
    )
    assert len(set(first)) == len(set(second)) == COUNT
    assert first != second
    # neighbours in the file are not neighbours in training
    assert sum(abs(int(a[-6:]) - int(b[-6:])) == 1 for a, b in itertools.pairwise(first)) < 9


def test_a_visit_depends_only_on_its_number(lines: Path, tmp_path: Path) -> None:
    live = LiveDataset(plan_of(f"jsonl:{lines}", turns=3), tmp_path)
    numbers = [5, 3 * COUNT + 1, 0, COUNT - 1, 5]
    here = [live.visit(number) for number in numbers]
    there = pickle.loads(pickle.dumps(live))  # noqa: S301  # what a loader's worker gets
    for number, conversation in zip(reversed(numbers), reversed(here), strict=True):
        other = there.visit(number)
        assert (other.id, _said(other)) == (conversation.id, _said(conversation))
    assert max(len(conversation.turns) for conversation in here) == 3


def test_epochs_cover_all_conversations_of_an_image(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", [line(4)])
    live = LiveDataset(plan_of(f"jsonl:{lines}", tasks="rec,detection,reg,caption"), tmp_path / "i")
    asked = {live.visit(epoch).turns[0].task for epoch in range(40)}
    assert asked == {"rec", "detection", "reg", "caption"}


def test_an_image_without_conversations_is_skipped(tmp_path: Path) -> None:
    bare = {"id": "bare", "image": "b.png", "width": 9, "height": 9}
    lines = write_lines(tmp_path / "lines.jsonl", [bare, line(1)])
    live = LiveDataset(plan_of(f"jsonl:{lines}"), tmp_path / "index")
    assert {live.visit(number).id.rpartition("/")[0] for number in range(6)} == {
        "jsonl/image-000001"
    }
    lines = write_lines(tmp_path / "bare.jsonl", [bare])
    with pytest.raises(AnnotationError, match=r"no task of the mixture rec,.* applies"):
        LiveDataset(plan_of(f"jsonl:{lines}"), tmp_path / "index").visit(0)


def test_sources_without_images_are_refused(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", [])
    with pytest.raises(AnnotationError, match="have no images"):
        LiveDataset(plan_of(f"jsonl:{lines}"), tmp_path / "index")


def test_a_run_over_budget_stops_with_an_example(tmp_path: Path) -> None:
    bad = {"objects": [{"category": "cup", "box": [10, 10, 10, 40]}]}
    records = [line(number, **(bad if number % 20 == 0 else {})) for number in range(BUDGET_FROM)]
    plan = plan_of(f"jsonl:{write_lines(tmp_path / 'lines.jsonl', records)}")
    live = LiveDataset(plan, tmp_path / "index")
    for number in range(BUDGET_FROM - 1):
        live.visit(number)
    with pytest.raises(
        BudgetError, match=r"25 of 500 images have problems, .* line \d+, questions"
    ):
        live.visit(BUDGET_FROM - 1)
    LiveDataset(plan, tmp_path / "index", budget=0.1).visit(BUDGET_FROM)


def _open(plan: BuildPlan, folder: Path, number: int) -> str:
    return LiveDataset(plan, folder).visit(number).id


def test_concurrent_processes_share_one_index(lines: Path, tmp_path: Path) -> None:
    plan = plan_of(f"jsonl:{lines}")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        ids = pool.starmap(_open, [(plan, tmp_path, number) for number in (3, 4)])
    live = LiveDataset(plan, tmp_path)
    assert ids == [live.visit(3).id, live.visit(4).id]
    (index,) = [one for one in tmp_path.iterdir() if one.is_dir()]
    stamp = (index / "index.json").stat().st_mtime_ns
    # other tasks, same index; other sources, another one
    LiveDataset(plan_of(f"jsonl:{lines}", tasks="caption", seed=4), tmp_path).visit(0)
    assert (index / "index.json").stat().st_mtime_ns == stamp
    LiveDataset(plan_of(f"jsonl:{lines},name=other"), tmp_path).visit(0)
    assert len([one for one in tmp_path.iterdir() if one.is_dir()]) == 2
