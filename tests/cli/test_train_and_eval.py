"""``deixis train`` and ``deixis eval``, end to end with a model that trains fast."""

import json
from pathlib import Path

import pytest
from command import Ended, Run

_RECIPE = Path(__file__).parent.parent / "tiny.py"


@pytest.mark.slow
def test_a_recipe_trains_and_resumes(deixis: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = ("stages.0.steps=2", "stages.0.batch_size=1", "stages.0.data.row_tokens=400")
    changes = [part for change in small for part in ("--set", change)]
    train = ("train", f"{_RECIPE}:tiny_recipe", "--out", out, *changes)
    ended = deixis(*train)
    assert ended.code == 0, ended.err
    assert "train tiny: 2 of 2" in ended.err
    assert f"model: {out / 'model'}" in ended.err
    assert json.loads((out / "recipe.json").read_text())["stages"][0]["steps"] == 2

    again = deixis(*train)
    assert (again.code, again.err.splitlines()[1]) == (4, "hint: --resume continues it")
    assert deixis(*train, "--resume").code == 0

    # rows without any fitting turn are refused by name; rows with turns left out are reported
    def limited(folder: str, *changes: str) -> Ended:
        options = [part for change in (*small[:2], *changes) for part in ("--set", change)]
        command = ("train", f"{_RECIPE}:tiny_recipe", "--out", tmp_path / folder, *options)
        return deixis(*command, "--set", "workers=1")

    few = limited("few", "stages.0.data.row_tokens=250", "stages.0.data.turns=8")
    assert few.code == 0, few.err
    rows = [json.loads(line) for line in (tmp_path / "few" / "log.jsonl").read_text().splitlines()]
    kept, left_out = (sum(row[name] for row in rows) for name in ("turns", "turns_left_out"))
    assert kept >= len(rows) == 2
    assert left_out > 0
    assert kept + left_out == 2 * 8
    told = f"stage all: {left_out} of 16 turns left out by row_tokens, 0 rows without a turn"
    assert told in few.err
    provenance = json.loads((tmp_path / "few" / "model" / "provenance.json").read_text())
    assert provenance["turns"] == {"all": {"kept": kept, "left_out": left_out, "rows_without": 0}}
    none = limited("none", "stages.0.data.row_tokens=5")
    assert none.code == 2
    (line,) = none.err.splitlines()
    assert line.startswith("deixis: scene 0: conversation scenes/train/")
    assert "turns fits into row_tokens 5; expected at least" in line


@pytest.mark.slow
def test_a_saved_model_is_tuned_and_its_changes_are_usable(
    deixis: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    changes = (
        "stages.0.steps=1",
        "stages.0.trainable=projector",
        'stages.0.tuning=[["language_model", "lora+adapters"]]',
        "release=changes",
    )
    options = [part for change in changes for part in ("--set", change)]
    ended = deixis("train", f"{_RECIPE}:tiny_recipe", "--from", tiny_folder, "--out", out, *options)
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in (out / "model").iterdir()) == [
        "changes.json",
        "changes.safetensors",
        "provenance.json",
    ]
    image = Path(__file__).parents[2] / "examples" / "scene-1.png"
    asked = deixis("point", image, "Where is the star?", "--model", out)
    assert asked.code == 0, asked.err
    refused = deixis("point", image, "Where?", "--model", tmp_path)
    assert (refused.code, "expected the folder of a saved deixis model" in refused.err) == (2, True)


def test_a_model_is_scored(deixis: Run, tiny_folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ("--limit", 2, "--level", "plain", "--out", report, "--json")
    ended = deixis("eval", tiny_folder, "scenes/rec:val", "scenes/res:val", *options)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == json.loads(report.read_text())
    assert len(json.loads(ended.out)["results"]) == 2
    assert "scenes/res:val@plain" in ended.err
    written = deixis("eval", tiny_folder, "scenes/rec:val@plain", "--limit", 1)
    assert "scenes/rec:val@plain" in written.out


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["nope", "--out", "run"], 2, "unknown recipe 'nope'; expected one of"),
        (["scenes_tiny", "--out", "run", "--set", "seeds=1"], 2, "has no field 'seeds'; it has"),
        (["scenes_tiny", "--out", "run", "--set", "seed=x"], 2, "expected an integer, got 'x'"),
        (["scenes_tiny", "--out", "run", "--set", "seed"], 2, "expected path=value"),
        (["scenes_tiny", "--out", "run", "--set", "stages.0.steps=0"], 2, "must be positive"),
        (["scenes_tiny", "--out", "file"], 4, "is a file, expected a folder"),
        (["scenes_tiny", "--out", "file/run"], 4, "is not a folder"),
        (["scenes_tiny", "--out", "run", "--resume"], 7, "holds no run to resume"),
        (["scenes_tiny"], 2, "--out"),
    ],
)
def test_invalid_training_options_are_refused(
    deixis: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    ended = deixis("train", *options)
    assert ended.code == code
    assert words in ended.err.splitlines()[0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["nope", "scenes/rec:val"], 2, "unknown model 'nope'"),
        (["nope", "scenes/what:val"], 2, "unknown benchmark 'scenes/what:val'"),
        (["nope", "scenes/rec:val", "--level", "easy"], 2, "level 'easy': expected one of plain"),
        (["nope", "scenes/rec:val", "--limit", "0"], 2, "--limit"),
        (["nope", "scenes/rec:val", "--out", "no/report.json"], 4, "does not exist"),
        (["nope"], 2, "Missing argument"),
    ],
)
def test_invalid_evaluation_options_are_refused(
    deixis: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = deixis("eval", *options)
    assert ended.code == code
    assert words in ended.err.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_every_command_describes_a_folder_that_is_not_a_deixis_model(
    deixis: Run, tmp_path: Path
) -> None:
    model = tmp_path / "vicuna"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    image = Path(__file__).parents[2] / "examples" / "scene-1.png"
    out, source = tmp_path / "out", ("--source", "scenes:train,count=2")
    for command in (
        ("point", image, "Where?", "--model", model),
        ("eval", model, "scenes/rec:val"),
        ("train", f"{_RECIPE}:tiny_recipe", "--from", model, "--out", out),
        ("data", "bootstrap", model, *source, "--out", out),
        ("data", "salient", "--captioner", f"deixis:{model}", *source, "--out", out),
    ):
        ended = deixis(*command)
        assert ended.code == 2, command
        said, hint = ended.err.splitlines()
        assert said == (
            f"deixis: model {model} is a language model of type 'llama'; "
            "expected a saved deixis model"
        )
        assert hint == f"hint: deixis train RECIPE --set model.language={model}"
