import json
import pickle
from pathlib import Path

import pytest

from deixis.data.wording import SLOTS, WORDED_TASKS, Wordings, load_wordings, wordings
from deixis.data.wording.custom import SIZE_LIMIT
from deixis.errors import RecipeError


def written(folder: Path, content: object) -> Path:
    """Write a user's file: text and bytes unchanged, other values as JSON."""
    path = folder / "mine.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("task", WORDED_TASKS)
def test_the_default_wordings_are_the_shipped_ones(task: str) -> None:
    assert Wordings.default().of(task) == wordings(task)


def test_a_file_holds_lists_or_grammars(tmp_path: Path) -> None:
    mine = {
        "caption": ["say it.", "Say it."],
        "rec": {"question": ["<find> {x}.", "Which box {is} {x}?"], "find": ["find", "seek"]},
        "detection": ["Box each {name}.", "Box the {names}."],
        "keypoint": ["All joints\nof the picture."],
    }
    assert load_wordings(written(tmp_path, mine)) == {
        "caption": ("Say it.",),
        "rec": ("Find {x}.", "Seek {x}.", "Which box {is} {x}?"),
        "detection": ("Box each {name}.", "Box the {names}."),
        "keypoint": ("All joints\nof the picture.",),
    }


def test_the_shipped_wordings_load_as_a_users_file(tmp_path: Path) -> None:
    mine = {task: list(wordings(task)) for task in WORDED_TASKS}
    assert load_wordings(written(tmp_path, mine)) == {task: wordings(task) for task in WORDED_TASKS}


def test_a_users_wordings_replace_or_extend(tmp_path: Path) -> None:
    path = written(tmp_path, {"res": ["Paint {x}.", "Segment {x}."]})
    default = Wordings.default()
    assert default.with_file(path).of("res") == ("Paint {x}.", "Segment {x}.")
    assert default.with_file(str(path), add=True).of("res") == (*wordings("res"), "Paint {x}.")
    assert default.with_file(path).of("rec") == wordings("rec")
    assert default.of("res") == wordings("res")


def test_several_files_apply_in_order(tmp_path: Path) -> None:
    first = Wordings.default().with_file(written(tmp_path, {"depth": ["Depth."], "gcg": ["All."]}))
    second = first.with_file(written(tmp_path, {"depth": ["Far?"]}), add=True)
    assert second.of("depth") == ("Depth.", "Far?")
    assert second.of("gcg") == ("All.",)
    assert first.of("depth") == ("Depth.",)


def test_fixed_wordings_give_one_for_each_task(tmp_path: Path) -> None:
    mine = Wordings.default().with_file(written(tmp_path, {"depth": ["Depth.", "Far?"]}))
    fixed = mine.fixed({"rec": "box of {x}:"})
    assert fixed.of("rec") == ("box of {x}:",)
    assert fixed.of("depth") == ("Depth.",)
    for task in set(SLOTS) - {"rec", "depth"}:
        assert fixed.of(task) == wordings(task)[:1]
    assert Wordings.default().fixed().of("rec") == ("Where {is} {x}?",)


def test_wordings_compare_by_value() -> None:
    fixed = Wordings.default().fixed()
    assert fixed == Wordings.default().fixed() != Wordings.default()
    assert len({fixed, Wordings.default().fixed()}) == 1
    assert pickle.loads(pickle.dumps(fixed)) == fixed  # noqa: S301
    with pytest.raises(AttributeError, match="own"):
        fixed.own = ()  # type: ignore[misc]  # what must not be possible


def test_fixed_wordings_are_checked() -> None:
    with pytest.raises(RecipeError, match=r"fixed wordings: unknown task 'vqa': expected one of"):
        Wordings.default().fixed({"vqa": "{question}"})
    with pytest.raises(RecipeError, match=r"fixed wordings: task rec: .* lacks its slot {x}"):
        Wordings.default().fixed({"rec": "Find it."})
    with pytest.raises(RecipeError, match=r"fixed wordings: task rec: wording '' is blank"):
        Wordings.default().fixed({"rec": ""})
    with pytest.raises(RecipeError, match=r"unknown task 'vqa'"):
        Wordings.default().of("vqa")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"is not JSON: Expecting"),
        ("", r"is not JSON: Expecting value"),
        (b"\xff\xfe", r"is not JSON: 'utf-8' codec can't decode"),
        ("[" * 100_000, r"is not JSON: "),
        (
            '{"rec": ["{x}"], "rec": ["Find {x}."]}',
            r"the name 'rec' appears twice in one JSON object",
        ),
        ('{"rec": {"question": ["{x}"], "question": []}}', r"name 'question' appears twice"),
        ("[]", r"expected a JSON object of wordings by task"),
        ("{}", r"expected a JSON object of wordings by task"),
        (" " * SIZE_LIMIT + "{}", rf"larger than {SIZE_LIMIT} bytes"),
        ({"recs": ["{x}"]}, r"unknown task 'recs': expected one of box_keypoint, caption, "),
        ({"rec": []}, r"task rec: rule <question> has no lines"),
        ({"rec": {}}, r"task rec: rule <question> has no lines, expected some; the rules are none"),
        ({"rec": {"find": ["{x}"]}}, r"rule <question> has no lines, .* the rules are find"),
        ({"rec": "{x}"}, r"task rec: rule <question>: expected a list of texts, got a text"),
        ({"rec": None}, r"expected a list of texts, got null"),
        ({"rec": True}, r"expected a list of texts, got true or false"),
        ({"rec": {"question": 1}}, r"expected a list of texts, got a number"),
        ({"rec": {"question": {}}}, r"expected a list of texts, got a JSON object"),
        ({"rec": ["{x}", ["{x}"]]}, r"rule <question>: expected texts, got a list among them"),
        ({"rec": {"question": ["{x}"], "A b": []}}, r"rule 'A b': expected a name of a to z and _"),
        ({"rec": {"question": ["<a>"], "a": ["{x}<a>"]}}, r"task rec: rule <a> refers to itself"),
        ({"rec": {"question": ["{x}"], "a": ["b"]}}, r"task rec: rule <a> is not used"),
        ({"rec": ["<find> {x}."]}, r"rule <find> has no lines, .* the rules are question"),
        (
            {"rec": {"question": ["{x}" + "<a>" * 5], "a": list("abcdefgh")}},
            r"more than 10000 texts",
        ),
        ({"rec": ["{x}" + "y" * 1000]}, r"a text of more than 1000 characters"),
        ({"rec": [" "]}, r"task rec: wording ' ' is blank, expected a question"),
        ({"rec": ["{x}\a"]}, r"wording '{x}\\x07' has a character that cannot be printed"),
        ({"rec": ["{x}\ud800"]}, r"has a character that cannot be printed, expected plain text"),
        ({"rec": ["Find {}."]}, r"wording 'Find {}\.' has a stray brace or angle, expected {slot}"),
        ({"rec": ["Find {x!r}."]}, r"has a stray brace or angle"),
        ({"rec": ["Find {{x}}."]}, r"has a stray brace or angle"),
        ({"rec": ["Find {x} > 3."]}, r"has a stray brace or angle"),
        ({"rec": ["Find {x} at {region}."]}, r"has an unknown slot {region}, expected {is}, {x}$"),
        ({"depth": ["Depth of {x}."]}, r"has an unknown slot {x}, expected no slots$"),
        ({"rec": ["Find {x}, {x}."]}, r"has its slot {x} twice, expected it once"),
        (
            {"rec": ["Where {is} it?"]},
            r"wording 'Where {is} it\?' lacks its slot {x}, expected {is}",
        ),
        ({"detection": ["Box it."]}, r"lacks its slot {names}, expected {name}, {names}"),
        ({"semantic": ["Mask it."]}, r"lacks its slot {name}, expected {name}$"),
        (
            {"relation": ["What of {region}?"]},
            r"lacks its slot {other}, expected {other}, {region}",
        ),
    ],
)
def test_an_invalid_file_is_refused(content: object, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(RecipeError, match=message) as told:
        load_wordings(path)
    assert str(told.value).startswith(f"wordings {path}: ")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["missing.json", ".", "nul\0l"])
def test_a_file_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot be read: "):
        Wordings.default().with_file(tmp_path / name)
