"""Predictions as rows of a file: written from answers, checked field by field when read."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.errors import BenchmarkError, GeometryError
from deixis.evaluation.examples import Example
from deixis.geometry import Box, ImageSize, Mask
from deixis.inference.pointing_answer import (
    SOURCES,
    BoxSource,
    FusedReference,
    PointingAnswer,
    ScoredBox,
)
from deixis.metrics import words_of
from deixis.structures import Answer, Reference

Row = dict[str, Any]
"""One line of a predictions file, as parsed JSON."""

FIELDS = (
    *("benchmark", "id", "example", "size", "text"),
    *("references", "problems", "finish_reason"),
)
"""The fields of a row; ``id`` and the field that the task scores are required."""

_DENIALS = frozenset({"no", "not", "none", "nothing", "isn't", "aren't"})
_OVERSHOOT = 1.0
_LONGEST_LINE = 1 << 24
_NAMED_PROBLEMS = 2


@dataclass(frozen=True, slots=True)
class PredictedReference:
    """One reference of an answer; a unit is None where the answer did not give it.

    ``sources`` are the boxes from each source that gave one, None where they were not recorded.
    """

    box: Box | None = None
    mask: Mask | None = None
    score: float | None = None
    sources: Mapping[BoxSource, ScoredBox] | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The parts of an answer that are scored.

    ``references`` is empty for an answer that says that nothing is there, and None for an
    unparsed answer, which neither points nor says so.
    """

    text: str
    references: tuple[PredictedReference, ...] | None
    problems: tuple[str, ...] = ()
    finish_reason: str = "stop"


def make_row(
    benchmark: str, example: Example, answer: Answer, *, with_sources: bool = False
) -> Row:
    """Return an answer as a row; boxes are clipped to the image.

    ``with_sources`` keeps the boxes that fused boxes were made of.

    Raises:
        BenchmarkError: The answer is about an image of another size, or a unit does not lie on the
            image: the predictor answers in another frame.
    """
    if answer.size != example.sample.size:
        raise BenchmarkError(
            f"example {example.id}: the answer is about a {answer.size} image, "
            f"expected {example.sample.size}"
        )
    found = [
        (reference, (phrase_index, number))
        for phrase_index, phrase in enumerate(answer.phrases)
        for number, reference in enumerate(phrase.references)
    ]
    try:
        references = [_reference_row(reference, answer.size) for reference, _ in found]
        if with_sources:
            fused = answer.fusion if isinstance(answer, PointingAnswer) else ()
            by_place = {(one.phrase, one.reference): one for one in fused}
            for row, (_, place) in zip(references, found, strict=True):
                row["sources"] = _sources_row(by_place.get(place), answer.size)
    except GeometryError as error:
        raise BenchmarkError(f"example {example.id}: {error}") from error
    pointed = bool(references) or _declines(answer)
    return {
        "benchmark": benchmark,
        "id": example.id,
        "example": example.fingerprint(),
        "size": list(answer.size),
        "text": answer.text,
        "references": references if pointed else None,
        "problems": [problem.code for problem in answer.problems],
        "finish_reason": answer.finish_reason,
    }


def _declines(answer: Answer) -> bool:
    if any(phrase.groups for phrase in answer.phrases):
        return True
    complete = answer.finish_reason == "stop" and not answer.problems
    return complete and not _DENIALS.isdisjoint(words_of(answer.text))


def _reference_row(reference: Reference, size: ImageSize) -> Row:
    row: Row = {"box": None, "mask": None, "score": reference.score}
    for unit in reference.units:
        if isinstance(unit, Box):
            clipped = unit.clip(size)
            row["box"] = [clipped.x1, clipped.y1, clipped.x2, clipped.y2]
        elif isinstance(unit, Mask):
            if unit.size != size:
                raise GeometryError(f"a mask is {unit.size}, its image {size}")
            row["mask"] = unit.to_coco()
    return row


def _sources_row(fused: FusedReference | None, size: ImageSize) -> Row:
    row: Row = {}
    for name, source in () if fused is None else fused.found.items():
        clipped = source.box.clip(size)
        row[name] = {
            "box": [clipped.x1, clipped.y1, clipped.x2, clipped.y2],
            "score": source.score,
        }
    return row


def dump_row(row: Row) -> str:
    """Return a row as one line of JSON, without its end."""
    return json.dumps(row, allow_nan=False, separators=(",", ":"))


class FileProblems:
    """Problems of a predictions file by kind: each is counted, the first ones are named."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = defaultdict(int)
        self._named: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, detail: str) -> None:
        """Count one problem."""
        self._counts[kind] += 1
        if len(self._named[kind]) < _NAMED_PROBLEMS:
            self._named[kind].append(detail)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def count(self, kind: str) -> int:
        """Return the number of problems of a kind."""
        return self._counts.get(kind, 0)

    def __str__(self) -> str:
        return "; ".join(
            f"{number} {kind} ({', '.join(self._named[kind])}{', ...' if number > len(self._named[kind]) else ''})"
            for kind, number in self._counts.items()
        )


def parse_row(line: str) -> Row:
    """Return the JSON object of one line.

    Raises:
        BenchmarkError: The line is not a JSON object of known fields, has NaN or repeats a key.
    """
    try:
        row = json.loads(line, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"not JSON: {str(error)[:80]}") from error
    if not isinstance(row, dict):
        raise BenchmarkError("not a JSON object")
    unknown = sorted(row.keys() - set(FIELDS))
    if unknown:
        raise BenchmarkError(f"unknown field {unknown[0][:40]!r}, expected {', '.join(FIELDS)}")
    name = row.get("id")
    if not isinstance(name, str):
        raise BenchmarkError(f"id {str(name)[:40]} is not a string")
    if not isinstance(row.get("benchmark", ""), str):
        raise BenchmarkError("benchmark is not a string")
    return row


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a predictions file with their numbers from 1, without blank lines.

    Raises:
        BenchmarkError: The file cannot be read, is not UTF-8 text or has a line of 16 MiB.
    """
    try:
        with path.open(encoding="utf-8") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if len(line) >= _LONGEST_LINE:
                    raise BenchmarkError(f"{path}: line {number} is too long")
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path}: cannot read predictions: {error}") from error


def to_prediction(
    row: Row, example: Example, *, needs_references: bool, needs_sources: bool = False
) -> Prediction:
    """Check a row against its example and return the prediction.

    Raises:
        BenchmarkError: A field is missing, has a wrong type, is not finite or lies outside the
            image, or the row belongs to another example or image.
    """
    size = example.sample.size
    needed = "references" if needs_references else "text"
    if needed not in row:
        raise BenchmarkError(f"has no {needed}")
    if "example" in row and row["example"] != example.fingerprint():
        raise BenchmarkError("was made for another version of the example")
    if "size" in row and row["size"] != list(size):
        raise BenchmarkError(f"is about an image of size {row['size']}, expected {list(size)}")
    text, problems = row.get("text", ""), row.get("problems", [])
    finish_reason = row.get("finish_reason", "stop")
    if not isinstance(text, str) or not isinstance(finish_reason, str):
        raise BenchmarkError("text or finish_reason is not a string")
    if not isinstance(problems, list) or not all(isinstance(code, str) for code in problems):
        raise BenchmarkError("problems is not a list of strings")
    references = row.get("references")
    if references is not None:
        if not isinstance(references, list):
            raise BenchmarkError("references is neither null nor a list")
        references = tuple(_to_reference(reference, size) for reference in references)
        if needs_sources and any(one.sources is None for one in references):
            raise BenchmarkError("has no sources of its boxes")
    return Prediction(text, references, tuple(problems), finish_reason)


def _to_reference(value: object, size: ImageSize) -> PredictedReference:
    if not isinstance(value, Mapping) or not value.keys() <= {"box", "mask", "score", "sources"}:
        raise BenchmarkError("a reference is not an object of box, mask, score and sources")
    box, mask = value.get("box"), value.get("mask")
    try:
        return PredictedReference(
            None if box is None else _on_image(Box.from_annotation(box, layout="xyxy"), size),
            None if mask is None else Mask.from_coco(mask, size=size),
            _to_score(value),
            _to_sources(value.get("sources"), size),
        )
    except GeometryError as error:
        raise BenchmarkError(str(error)) from error


def _to_score(value: Mapping[str, Any]) -> float | None:
    score = value.get("score")
    if score is None:
        return None
    if not _is_probability(score):
        raise BenchmarkError(f"score {str(score)[:40]} is not a number in [0, 1]")
    return float(score)


def _to_sources(value: object, size: ImageSize) -> Mapping[BoxSource, ScoredBox] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not value.keys() <= set(SOURCES):
        raise BenchmarkError(f"sources is not an object of {', '.join(SOURCES)}")
    found: dict[BoxSource, ScoredBox] = {}
    for name in SOURCES:
        if name not in value:
            continue
        source = value[name]
        if not isinstance(source, Mapping) or not {"box"} <= source.keys() <= {"box", "score"}:
            raise BenchmarkError(f"source {name} is not an object of box and score")
        box = Box.from_annotation(source["box"], layout="xyxy")
        found[name] = ScoredBox(_on_image(box, size), _to_score(source))
    return found


def _is_probability(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0.0 <= value <= 1.0


def _on_image(box: Box, size: ImageSize) -> Box:
    low, right, bottom = -_OVERSHOOT, size.width + _OVERSHOOT, size.height + _OVERSHOOT
    if box.x1 < low or box.y1 < low or box.x2 > right or box.y2 > bottom:
        raise BenchmarkError(f"box {box} (xyxy) does not fit a {size} image")
    return box
