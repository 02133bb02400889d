import re
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.wording import SLOTS, WORDED_TASKS, wordings
from deixis.data.wording.__main__ import table
from deixis.errors import RecipeError

PAGE = Path(__file__).parents[3] / "docs" / "wordings.md"

FIRST = {
    "caption": "Describe the image.",
    "count": "Count the {names}.",
    "count_words": "How many {names} are there?",
    "detection": "Detect all {names}.",
    "detection_all": "Detect everything.",
    "gcg": "Describe the image and point at each thing.",
    "gcg_box": "Describe the image with boxes.",
    "gcg_mask": "Describe the image with masks.",
    "locate": "Point at {x}.",
    "rec": "Where {is} {x}?",
    "reg": "What is {region}?",
    "reg_unique": "Describe {region} so that I can find it.",
    "res": "Segment {x}.",
    "segmentation": "Segment all {names}.",
}
"""The fixed prompts of published evaluations."""

FILLED = {
    "x": "the red cups",
    "is": "are",
    "name": "cup",
    "names": "cups",
    "list": "cats, dogs and cars",
    "region": "<region>",
    "other": "<other>",
    "predicate": "is holding",
    "quadrant": "top left",
    "anchor": "the tall tree",
    "question": "Who sleeps?",
    "options": "(A) cat (B) dog",
    "text": '"A dog runs."',
}

MASK_WORDS = r"\b(?:segment|outline|mask|cut out|pixel)"
JOINT_WORDS = r"\b(?:joints|keypoints|pose)\b"
DOT_WORDS = r"\b(?:one point|a single point|a dot)\b"
DEPTH_WORDS = r"\b(?:depth map|how far)\b"
MASK_TASKS = {"gcg_mask", "ground_caption_mask", "interactive_mask", "res", "semantic"} | {
    task for task in WORDED_TASKS if task.startswith("segmentation")
}
JOINT_TASKS = {"box_keypoint", "interactive_keypoint", "keypoint", "keypoint_named"}
WORD_TASKS = {
    *("caption", "caption_detailed", "choice", "count_example", "count_words", "loc_tag"),
    *("quadrant_class", "reason_answer", "reg", "reg_unique", "relation"),
    *("relation_object_class", "short_answer", "statement", "video_caption"),
    "video_caption_detailed",
}
"""Tasks with answers of words only."""

each_task = pytest.mark.parametrize("task", WORDED_TASKS)


@each_task
def test_a_task_has_many_wordings(task: str) -> None:
    assert 150 <= len(set(wordings(task))) == len(wordings(task)) <= 260


@each_task
def test_wordings_have_the_slots_of_their_task(task: str) -> None:
    either = {"name", "names"}
    for text in wordings(task):
        slots = re.findall(r"{(\w+)}", text)
        assert len(set(slots)) == len(slots), text
        assert set(slots) <= SLOTS[task], text
        if either <= SLOTS[task]:
            assert either & set(slots), text
        elif task != "keypoint":
            assert set(slots) >= SLOTS[task] - {"is"}, text


@pytest.mark.parametrize(
    ("task", "order"),
    [
        ("relation", "region other"),
        ("choice", "question options"),
        ("which_box", "question options"),
    ],
)
def test_slots_have_the_order_that_their_meaning_needs(task: str, order: str) -> None:
    for text in wordings(task):
        assert re.findall(r"{(\w+)}", text) == order.split(), text


def test_published_prompts_stay_the_first_wordings() -> None:
    assert {task: wordings(task)[0] for task in FIRST} == FIRST
    assert wordings("rec") == wordings("rec")


def test_no_wording_belongs_to_two_tasks() -> None:
    # The wording decides which units come back; the content of its slots does not.
    seen = defaultdict(set)
    for task in WORDED_TASKS:
        for text in wordings(task):
            seen[re.sub(r"{(?!region)\w+}", "{}", text).casefold()].add(task)
    assert {text: tasks for text, tasks in seen.items() if len(tasks) > 1} == {}


@pytest.mark.parametrize(
    ("words", "tasks", "others"),
    [
        (MASK_WORDS, MASK_TASKS, {"gcg", "locate"}),
        (JOINT_WORDS, JOINT_TASKS, set()),
        (DOT_WORDS, {"point_out"}, set()),
        (DEPTH_WORDS, {"depth"}, set()),
        (r"\b(?:video|clip)\b", {"video_caption", "video_caption_detailed"}, set()),
    ],
)
def test_wordings_name_the_requested_unit(words: str, tasks: set[str], others: set[str]) -> None:
    for task in set(WORDED_TASKS) - others:
        for text in wordings(task):
            assert bool(re.search(words, text, re.IGNORECASE)) == (task in tasks), (task, text)


def test_wordings_of_text_tasks_do_not_mention_boxes() -> None:
    for task in WORD_TASKS:
        for text in wordings(task):
            assert not re.search(r"(?<!without )\bbox|point", text, re.IGNORECASE), (task, text)


def problems(text: str) -> list[str]:
    """Return the mistakes of a wording that rules can find."""
    checks = {
        "spaces": r"  |^ | $| [.,:?]|[.,:?]\w",
        "end": r"[^.?]$",
        "start": r"^[a-z]",
        "two stops": r"[.,:?]{2}",
        "a word twice": r"\b(\w+) \1\b",
        "two courtesies": r"please.*please",
        "two questions": r"\?.*\?",
        "a small letter after a stop": r"[.?] [a-z]",
        "a capital letter within a sentence": r"(?<![.?:])(?<!{question})(?<!{text}) (?!I\b)[A-Z]",
        "an article of the wrong sound": r"\ba [aeiou]|\ban [^aeiou\W]",
        "an article before a slot": r"\ban? {|\b(?:a|an|the) {(?:x|anchor|region|other|text|name)}",
        "a question without its mark": r"^(?:can|could|how|what|where|which|does|do|is)\b[^?]*$",
        "a request with a question mark": r"^(?:Please|I)\b.*\?",
        "brackets": r"<|>|\(|\)|{[^}]*{|}[^{]*}",
    }
    ignore = {"two courtesies", "an article of the wrong sound", "a question without its mark"}
    return [
        name
        for name, pattern in checks.items()
        if re.search(pattern, text, re.IGNORECASE if name in ignore else 0)
    ]


@each_task
def test_wordings_pass_the_rules_of_english(task: str) -> None:
    assert {text: problems(text) for text in wordings(task) if problems(text)} == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Find  {x}.", "spaces"),
        ("Find {x}", "end"),
        ("find {x}.", "start"),
        ("Find {x}..", "two stops"),
        ("Find the the box.", "a word twice"),
        ("Please could you please find {x}?", "two courtesies"),
        ("Can you? Find {x}?", "two questions"),
        ("Find {x}. give boxes.", "a small letter after a stop"),
        ("Find {x} In the image.", "a capital letter within a sentence"),
        ("Write a outline.", "an article of the wrong sound"),
        ("Give the {x}.", "an article before a slot"),
        ("Can you find {x}.", "a question without its mark"),
        ("Please find {x}?", "a request with a question mark"),
        ("Find <x.", "brackets"),
    ],
)
def test_the_rules_of_english_find_mistakes(text: str, problem: str) -> None:
    assert problem in problems(text)


@each_task
def test_filled_wordings_repeat_no_word(task: str) -> None:
    for text in wordings(task):
        filled = text.format(**FILLED)
        assert not re.search(r"\b(\w+) \1\b|[{}]|  ", filled, re.IGNORECASE), filled
        assert filled.count("?") <= 1 + ("{question}" in text), filled


@given(task=st.sampled_from(WORDED_TASKS), data=st.data())
def test_filling_the_slots_leaves_no_braces(task: str, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(wordings(task)))
    words = st.text(st.characters(exclude_characters="{}"))
    values = {slot: data.draw(words) for slot in sorted(SLOTS[task])}
    filled = text.format(**values)
    assert not set("{}") & set(filled)
    assert all(values[slot] in filled for slot in re.findall(r"{(\w+)}", text))


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"unknown task '\.\./rec': expected one of box_keypoint, "
    ):
        wordings("../rec")


def test_every_grammar_belongs_to_a_task() -> None:
    import deixis.data.wording as package  # noqa: PLC0415 (its folder is meant)

    folder = Path(package.__file__).parent
    assert {path.stem for path in folder.glob("*.json")} == set(SLOTS) == set(WORDED_TASKS)


def test_the_page_shows_the_table_that_the_module_prints() -> None:
    shown = PAGE.read_text().partition("<!-- table begins -->\n")[2]
    assert shown.partition("<!-- table ends -->")[0] == table()
