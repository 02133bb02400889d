from itertools import pairwise

import pytest

from deixis.data.wording.grammar import DEPTH_LIMIT, EXPANSION_LIMIT, LENGTH_LIMIT, expand
from deixis.errors import RecipeError


def test_the_last_rule_of_a_line_changes_fastest() -> None:
    rules = {"question": ["<a> <b>.", "end."], "a": ["one", "two"], "b": ["<a>", "three"]}
    assert expand(rules, where="here") == (
        *("One one.", "One two.", "One three.", "Two one.", "Two two.", "Two three."),
        "End.",
    )


def test_duplicate_texts_count_once() -> None:
    assert expand({"question": ["<a>b.", "ab."], "a": ["a", "a"]}, where="here") == ("Ab.",)


def test_slots_stay_as_they_are() -> None:
    assert expand({"question": ["{x} <a>."], "a": ["{y}"]}, where="here") == ("{x} {y}.",)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, r"here: rule <question> has no lines, expected some; the rules are none"),
        ({"question": []}, r"here: rule <question> has no lines"),
        (
            {"question": ["<a>."], "b": ["x"]},
            r"here: rule <a> has no lines, expected some; the rules are question, b",
        ),
        (
            {"question": ["<a>."], "a": ["b<a>"]},
            r"here: rule <a> refers to itself: a -> a$",
        ),
        (
            {"question": ["<a>."], "a": ["<b>"], "b": ["c", "<a>"]},
            r"here: rule <a> refers to itself: a -> b -> a$",
        ),
        ({"question": ["<question>"]}, r"rule <question> refers to itself: question -> question"),
        (
            {"question": ["a."], "b": ["x"]},
            r"here: rule <b> is not used, expected a line that names it",
        ),
    ],
)
def test_rules_that_do_not_expand_are_refused(rules: dict[str, list[str]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        expand(rules, where="here")


def test_the_number_of_texts_is_bounded_before_they_are_written() -> None:
    ten = [str(digit) for digit in range(10)]
    most = expand({"question": ["<a>" * 4], "a": ten}, where="here")
    assert len(most) == EXPANSION_LIMIT
    message = rf"here: rule <question> gives more than {EXPANSION_LIMIT} texts, expected fewer"
    with pytest.raises(RecipeError, match=message):
        expand({"question": ["<a>" * 100], "a": ten}, where="here")
    with pytest.raises(RecipeError, match=message):
        expand({"question": ["<a>" * 4, "one more."], "a": ten}, where="here")


def test_rules_that_double_a_text_are_bounded() -> None:
    rules = {
        "question": ["<a>"],
        "a": ["<b><b>"],
        "b": ["<c><c>"],
        "c": ["x" * (LENGTH_LIMIT // 4)],
    }
    (longest,) = expand(rules, where="here")
    assert len(longest) == LENGTH_LIMIT
    message = rf"here: rule <a> gives a text of more than {LENGTH_LIMIT} characters"
    with pytest.raises(RecipeError, match=message):
        expand(rules | {"c": ["x" * (LENGTH_LIMIT // 4 + 1)]}, where="here")


def test_rules_without_text_expand_quickly() -> None:
    depth = DEPTH_LIMIT - 1
    names = ["question", *("a" * nth for nth in range(1, depth + 1))]
    rules = {name: [f"<{below}>" * 50] for name, below in pairwise(names)}
    assert expand(rules | {names[-1]: [""]}, where="here") == ("",)
    deeper = {names[-1]: ["<one_more>"], "one_more": [""]}
    with pytest.raises(RecipeError, match=rf"<one_more> nests deeper than {DEPTH_LIMIT} rules"):
        expand(rules | deeper, where="here")
