"""Text metrics: descriptions of regions (REG) and answers to questions (VQA)."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from deixis.errors import BenchmarkError
from deixis.language import NUMBER_WORDS
from deixis.metrics.confidence_intervals import Interval, confidence_interval

_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_ENOUGH_ANNOTATORS = 3


def words_of(text: str) -> list[str]:
    """Return the words of ``text``, without case and punctuation, in order."""
    return _WORD.findall(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").casefold())


def normalize_answer(text: str) -> str:
    """Return ``text`` without case, punctuation and articles, and with number words as digits.

    ``no`` stays a word: it answers a question. A last word is no article: ``the letter A``.
    """
    words = words_of(text)
    kept = [word for word in words[:-1] if word not in _ARTICLES] + words[-1:]
    return " ".join(
        str(NUMBER_WORDS[word]) if word in NUMBER_WORDS and word not in {"no", "none"} else word
        for word in kept
    )


def word_f1(predicted: Sequence[str], target: Sequence[str]) -> float:
    """Return the F1 of two bags of words; 1 when both are empty."""
    shared = sum((Counter(predicted) & Counter(target)).values())
    total = len(predicted) + len(target)
    return 2 * shared / total if total else 1.0


@dataclass(frozen=True, slots=True)
class DescriptionScore:
    """Agreement of descriptions of regions with the truth, as fractions in [0, 1].

    ``exact_match`` is the share of descriptions that equal a reference after normalising; ``word_f1`` is
    the mean of the best F1 against a reference over the words of the vocabulary. An empty
    description is wrong and in ``num_unparsed``.
    """

    exact_match: float
    exact_match_interval: Interval
    word_f1: float
    num_examples: int
    num_unparsed: int


class DescriptionAccuracy:
    """Compares descriptions with references.

    ``vocabulary`` restricts the F1 to words that matter, such as the names of attributes; by
    default every word but the articles counts.
    """

    def __init__(self, *, vocabulary: Collection[str] | None = None) -> None:
        self._vocabulary = None if vocabulary is None else frozenset(vocabulary)
        self._exact: list[bool] = []
        self._f1: list[float] = []
        self._num_unparsed = 0

    def update(self, predicted: str | None, references: Sequence[str]) -> float:
        """Add one description and return its F1.

        Raises:
            BenchmarkError: There is no reference.
        """
        if not references:
            raise BenchmarkError("a description needs a reference")
        if predicted is None or not predicted.strip():
            self._num_unparsed += 1
            exact, f1 = False, 0.0
        else:
            exact = normalize_answer(predicted) in {normalize_answer(text) for text in references}
            words = self._words(predicted)
            f1 = max(word_f1(words, self._words(reference)) for reference in references)
        self._exact.append(exact)
        self._f1.append(f1)
        return f1

    def compute(self, *, seed: int = 0) -> DescriptionScore:
        """Return the score; ``seed`` draws the interval.

        Raises:
            BenchmarkError: No example was added.
        """
        if not self._exact:
            raise BenchmarkError("no examples")
        exact = np.array(self._exact, dtype=np.float64)
        return DescriptionScore(
            exact_match=float(exact.mean()),
            exact_match_interval=confidence_interval(exact, seed=seed),
            word_f1=float(np.mean(self._f1)),
            num_examples=len(self._exact),
            num_unparsed=self._num_unparsed,
        )

    def _words(self, text: str) -> list[str]:
        words = normalize_answer(text).split()
        if self._vocabulary is None:
            return words
        return [word for word in words if word in self._vocabulary]


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """Share of questions that are answered as by the annotators."""

    accuracy: float
    accuracy_interval: Interval
    num_examples: int
    num_unparsed: int


def answer_agreement(predicted: str, targets: Sequence[str]) -> float:
    """Return VQA's agreement of a normalised answer with those of the annotators.

    For several annotators it is the mean over leaving one out of ``min(matches / 3, 1)``; for
    a single one it is 1 or 0.
    """
    answer = normalize_answer(predicted)
    matches = [normalize_answer(target) == answer for target in targets]
    if len(matches) == 1:
        return float(matches[0])
    total = sum(matches)
    return float(np.mean([min((total - match) / _ENOUGH_ANNOTATORS, 1.0) for match in matches]))


class AnswerAccuracy:
    """Compares short answers with those of the annotators."""

    def __init__(self) -> None:
        self._agreement: list[float] = []
        self._num_unparsed = 0

    def update(self, predicted: str | None, targets: Sequence[str]) -> float:
        """Add one answer and return its agreement; an empty one is wrong and unparsed.

        Raises:
            BenchmarkError: There is no target.
        """
        if not targets:
            raise BenchmarkError("a question needs an annotated answer")
        if predicted is None or not predicted.strip():
            self._num_unparsed += 1
            agreement = 0.0
        else:
            agreement = answer_agreement(predicted, targets)
        self._agreement.append(agreement)
        return agreement

    def compute(self, *, seed: int = 0) -> AnswerScore:
        """Return the score; ``seed`` draws the interval.

        Raises:
            BenchmarkError: No example was added.
        """
        if not self._agreement:
            raise BenchmarkError("no examples")
        agreement = np.array(self._agreement, dtype=np.float64)
        return AnswerScore(
            accuracy=float(agreement.mean()),
            accuracy_interval=confidence_interval(agreement, seed=seed),
            num_examples=len(self._agreement),
            num_unparsed=self._num_unparsed,
        )
