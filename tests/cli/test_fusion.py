"""``deixis point --fuse`` and ``deixis eval --fuse``, with a detector and a pose model."""

import json
from pathlib import Path

import pytest
from closeness import assert_same_answers
from command import Run
from models.decoders.plugs import save_detector, save_pose

from deixis.inference.pointing_answer import STRATEGIES

EXAMPLE = Path(__file__).parents[2] / "examples" / "scene-1.png"
QUESTION = "the red circle on the left"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {name: tmp_path_factory.mktemp(name) for name in ("dino", "pose")}
    save_detector(found["dino"])
    save_pose(found["pose"], 17)
    return found


@pytest.mark.slow
def test_an_answer_is_fused_and_lists_its_sources(deixis: Run, folders: dict[str, Path]) -> None:
    plain = json.loads(deixis("point", EXAMPLE, QUESTION, "--json").out)
    ended = deixis(
        *("point", EXAMPLE, QUESTION, "--fuse", "decoder", "--detector", folders["dino"]),
        *("--pose", folders["pose"], "--json"),
    )
    assert ended.code == 0, ended.err
    answer = json.loads(ended.out)
    (reference,) = answer["phrases"][0]["groups"][0]["references"]
    fusion = reference.pop("fusion")
    assert {"decoder", "mask"} <= fusion["sources"].keys()
    assert (fusion["strategy"], fusion["made_of"]) == ("decoder", ["decoder"])
    assert_same_answers(answer, plain)
    written = deixis("point", EXAMPLE, QUESTION, "--fuse", "mean")
    assert " of decoder and mask, mask of " in written.out


@pytest.mark.slow
def test_a_pose_model_is_asked_for_keypoints(deixis: Run, folders: dict[str, Path]) -> None:
    options = ("--units", "box,keypoint", "--pose", folders["pose"])
    ended = deixis("point", EXAMPLE, QUESTION, *options)
    assert ended.code == 0, ended.err
    assert " of 17 keypoints" in ended.out


@pytest.mark.slow
def test_sources_and_strategies_are_scored(
    deixis: Run, folders: dict[str, Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    options = ("--fuse", "agreement,mean", "--detector", folders["dino"], "--limit", 3)
    ended = deixis("eval", "scenes-tiny", "scenes/rec:val@plain", *options, "--out", report)
    assert ended.code == 0, ended.err
    (result,) = json.loads(report.read_text())["results"]
    fusion = result["fusion"]
    assert fusion["sources"]["decoder"]["accuracy"] == result["scores"]["rec"]["accuracy"]
    assert list(fusion["fused"]) == ["agreement", "mean"]
    assert fusion["detector"]["name"] == folders["dino"].name
    assert len(fusion["detector"]["weights_sha256"]) == 64
    assert "| scenes/rec:val@plain | fused: mean | " in ended.out
    assert "| scenes/rec:val@plain | any source right | " in ended.out


@pytest.mark.parametrize("command", ["point", "eval"])
def test_help_names_every_strategy(
    deixis: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = deixis(command, "--help").out.replace(",", " ").replace(".", " ").split()
    assert set(STRATEGIES) <= set(words)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["point", EXAMPLE, "x", "--fuse", "best"], 2, "fusion strategy 'best': expected one of"),
        (["point", EXAMPLE, "x", "--detector", "."], 2, "--detector is asked only where boxes are"),
        (
            ["point", EXAMPLE, "x", "--fuse", "mean", "--detector", "."],
            7,
            "detector .: expected co",
        ),
        (["point", EXAMPLE, "x", "--pose", "none"], 7, "pose model none: expected config.json"),
        (["eval", "nope", "scenes/rec:val", "--fuse", "mean,"], 2, "fusion strategy '': expected"),
        (["eval", "nope", "scenes/vqa:val", "--fuse", "mean"], 2, "expected rec or locate to comp"),
        (["eval", "nope", "scenes/rec:val", "--detector", "."], 2, "--detector is asked only wher"),
    ],
)
def test_invalid_fusion_is_a_one_line_error(
    deixis: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = deixis(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.err.splitlines()[0]
    assert all(line.startswith("hint: ") for line in ended.err.splitlines()[1:])
