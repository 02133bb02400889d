from collections import Counter
from pathlib import Path

import pytest
from annotated import line, plan_of, write_lines

from deixis.data.build import BuildPlan, BuiltDataset, build, with_wordings
from deixis.data.mixture import MIXTURES, Mixture, parse_mixture
from deixis.data.tasks import TASKS, parse_rules
from deixis.errors import RecipeError


@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_named_mixtures_apply_to_drawn_scenes(name: str, tmp_path: Path) -> None:
    mixture = parse_mixture(name, known=TASKS)
    assert parse_mixture(str(mixture), known=TASKS) == mixture
    build(plan_of("scenes:train,count=30,seed=3", tasks=name), tmp_path / "out")
    asked = Counter(row["task"] for row in BuiltDataset(tmp_path / "out").rows())
    # drawn scenes have no descriptions of cut-outs and no questions with options
    missing = {entry for entry, _ in mixture.rates if not set(entry.split("|")) & set(asked)}
    assert missing <= {"choice", "conversation", "region_qa", "vqa|vqa_reason|region_qa"}
    assert set(asked) <= {task for entry, _ in mixture.rates for task in entry.split("|")}


def test_each_try_of_several_tasks_uses_one_that_applies(tmp_path: Path) -> None:
    # no instance has a description, and most images have no relation
    records = [line(number, expressions=[], relations=[]) for number in range(60)]
    lines = write_lines(tmp_path / "lines.jsonl", records)
    build(plan_of(f"jsonl:{lines}", tasks="relation|rec|detection|count"), tmp_path / "out")
    rows = list(BuiltDataset(tmp_path / "out").rows())
    assert len({row["id"].rpartition("/")[0] for row in rows}) == len(rows) == 60
    asked = Counter(row["task"] for row in rows)
    assert set(asked) == {"detection", "count"}
    assert min(asked.values()) > 15


def test_an_entry_does_not_change_the_turns_of_others(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", [line(number) for number in range(30)])

    def made(tasks: str) -> dict[str, str]:
        out = tmp_path / tasks.replace("|", "-").replace("*", "x")
        build(plan_of(f"jsonl:{lines}", tasks=tasks), out)
        return {
            row["id"].rpartition("/")[0]: row["turns"]
            for row in BuiltDataset(out).rows()
            if row["task"] == "caption"
        }

    assert made("caption") == made("rec|detection,caption") == made("count*0.5,caption")


@pytest.mark.parametrize("text", ["rec|", "rec|nothing", "rec||res", "rec|res*0", "rec|res,rec"])
def test_invalid_mixtures_are_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        parse_mixture(text, known=TASKS)


def test_rules_belong_to_the_plan(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", [line(1)])
    plain = plan_of(f"jsonl:{lines}")
    assert "rules" not in plain.to_dict()
    changed = plan_of(f"jsonl:{lines}", rules=parse_rules("pink", ["absent_share=1"]))
    assert changed.to_dict()["rules"] == {
        "order": "area",
        "empty": "group",
        "absent_share": 1.0,
        "attribute_share": 0.0,
        "class_by_count": True,
        "region_kinds": ("box",),
    }
    build(plain, tmp_path / "out")
    with pytest.raises(RecipeError):
        build(changed, tmp_path / "out")


def test_absent_share_decides_which_detections_are_denied(tmp_path: Path) -> None:
    for share in (0, 1):
        rules = parse_rules("deixis", [f"absent_share={share}"])
        plan = plan_of("scenes:train,count=20", tasks="detection", rules=rules)
        build(plan, tmp_path / str(share))
    found, denied = (
        [BuiltDataset(tmp_path / str(share))[number].turns[0].answer for number in range(20)]
        for share in (0, 1)
    )
    assert all(answer is not None and answer.phrases for answer in found)
    assert not any(answer is not None and answer.phrases for answer in denied)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("blue", "", "rules 'blue': expected one of"),
        ("deixis", "blue=1", "rule 'blue=1': expected RULE=VALUE"),
        ("deixis", "wording=x", "rule 'wording=x': expected RULE=VALUE"),
        ("deixis", "absent_share=2", "a share in"),
        ("deixis", "absent_share=much", "expected a number such as 0.15, got 'much'"),
        ("deixis", "class_by_count=yes", "expected on or off, got 'yes'"),
        ("deixis", "order=random", "expected one of"),
        ("deixis", "region_kinds=box|blob", "expected some of"),
    ],
)
def test_invalid_rules_of_a_plan_are_refused(name: str, change: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse_rules(name, [change] if change else [])


def test_wordings_without_a_record_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "words.json"
    own.write_text('{"caption": ["Tell me of this picture."]}')
    rules, extra = with_wordings(own)
    assert set(extra) == {"wordings"}
    sources = plan_of("scenes:train,count=2").sources
    BuildPlan(sources, Mixture((("caption", 1.0),)), rules=rules, extra=extra)
    with pytest.raises(RecipeError, match="the plan does not record them"):
        BuildPlan(sources, Mixture((("caption", 1.0),)), rules=rules)
