from statistics import mean

import pytest

from deixis.errors import BenchmarkError
from deixis.metrics import (
    AnswerAccuracy,
    DescriptionAccuracy,
    answer_agreement,
    normalize_answer,
    word_f1,
    words_of,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The red circle.", "red circle"),
        ("  Two,  DOGS!", "2 dogs"),
        ("no", "no"),
        ("A", "a"),
        ("The letter A.", "letter a"),
        ("it\N{RIGHT SINGLE QUOTATION MARK}s a star", "it's star"),
        ("STRASSE", normalize_answer("straße")),
        ("?!", ""),
    ],
)
def test_normalising_drops_case_punctuation_and_articles(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


def test_words_keep_their_order() -> None:
    assert words_of("Red-striped circle, left") == ["red", "striped", "circle", "left"]


def test_word_f1_counts_repeated_words() -> None:
    assert word_f1(["red", "red"], ["red"]) == pytest.approx(2 / 3)
    assert word_f1([], []) == 1.0
    assert word_f1([], ["red"]) == 0.0


def test_a_description_is_compared_with_its_best_reference() -> None:
    metric = DescriptionAccuracy()
    assert metric.update("The red circle.", ["a blue star", "red circle"]) == 1.0
    assert metric.update("red star", ["red circle"]) == 0.5
    score = metric.compute()
    assert (score.exact_match, score.word_f1) == (0.5, 0.75)


def test_a_vocabulary_restricts_the_words_that_count() -> None:
    metric = DescriptionAccuracy(vocabulary={"red", "circle", "large"})
    assert metric.update("the red circle near some table", ["red circle"]) == 1.0
    assert metric.update("the red circle", ["large red circle"]) == pytest.approx(0.8)


@pytest.mark.parametrize("empty", [None, "", "  \n"])
def test_an_empty_description_is_wrong_and_unparsed(empty: str | None) -> None:
    metric = DescriptionAccuracy()
    assert metric.update(empty, [""]) == 0.0
    score = metric.compute()
    assert (score.exact_match, score.num_unparsed) == (0.0, 1)


def test_agreement_with_several_annotators_is_the_mean_over_leaving_one_out() -> None:
    targets = ["red", "red", "Red.", "blue", "dark red"]
    expected = mean(
        min(
            sum(other.lower().strip(".") == "red" for other in targets[:skip] + targets[skip + 1 :])
            / 3,
            1,
        )
        for skip in range(len(targets))
    )
    assert answer_agreement("the red", targets) == pytest.approx(expected)


def test_agreement_with_one_annotator_is_equality() -> None:
    metric = AnswerAccuracy()
    assert metric.update("Two", ["2"]) == 1.0
    assert metric.update("two dogs", ["2"]) == 0.0
    assert metric.update(None, ["2"]) == 0.0
    score = metric.compute()
    assert score.accuracy == pytest.approx(1 / 3)
    assert (score.num_examples, score.num_unparsed) == (3, 1)


def test_missing_references_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="a description needs a reference"):
        DescriptionAccuracy().update("red", [])
    with pytest.raises(BenchmarkError, match="a question needs an annotated answer"):
        AnswerAccuracy().update("red", [])


def test_no_examples_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="no examples"):
        DescriptionAccuracy().compute()
    with pytest.raises(BenchmarkError, match="no examples"):
        AnswerAccuracy().compute()
