import pytest

from deixis.language import (
    article,
    bare,
    count_word,
    definite,
    head_phrase,
    is_plural,
    join,
    plural,
    sentence,
)


@pytest.mark.parametrize(
    ("phrase", "head"),
    [
        ("the red circle on the left", "red circle"),
        ("leftmost star", "star"),
        ("top right person", "person"),
        ("big blue square in the middle", "big blue square"),
        ("left", "left"),
        ("person in a red shirt holding a balloon", "person"),
        ("the letter A that is on the table", "letter A"),
        ("the cup that the person is holding", "cup"),
        ("second star from left", "star"),
        ("both people", "people"),
        ("every striped star", "striped star"),
        ("the brown dog, asleep", "brown dog"),
        ("guy in front", "guy"),
    ],
)
def test_the_head_says_what_it_is(phrase: str, head: str) -> None:
    assert head_phrase(phrase) == head


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("red box", "red boxes"),
        ("person", "people"),
        ("shelf", "shelves"),
        ("city", "cities"),
        ("toy", "toys"),
        ("bench", "benches"),
        ("sheep", "sheep"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many
    assert is_plural(f"the {many}")


def test_small_words() -> None:
    assert article("oval") == "an oval"
    assert article("hat") == "a hat"
    assert count_word(0) == "zero"
    assert count_word(20) == "twenty"
    assert count_word(21) == "21"
    assert join([]) == ""
    assert join(["a star"]) == "a star"
    assert sentence("two red boxes") == "Two red boxes."
    assert bare("all of the stars") == "stars"
    assert bare("the") == "the"
    assert definite("left star") == "the left star"
    assert definite("every star") == "every star"
    assert definite("theatre mask") == "the theatre mask"
    assert not is_plural("every star")
    assert not is_plural("a pair of scissors")
