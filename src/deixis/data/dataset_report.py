"""Reports on a built data set: its contents, and the records left out with the reasons."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from deixis.data.build.dataset import BuiltDataset
from deixis.errors import CheckpointError
from deixis.geometry.checks import shown

_DAMAGE = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError),
    StopIteration,
)
_LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SMALL, _MEDIUM = 32**2, 96**2
_THIRDS = ("left", "middle", "right"), ("top", "middle", "bottom")


@dataclass(slots=True)
class Counts:
    """Counts over the rows of a data set; they count turns unless their name says otherwise."""

    conversations: int = 0
    turns: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    references: Counter[int] = field(default_factory=Counter)
    question_words: Counter[str] = field(default_factory=Counter)
    answer_words: Counter[str] = field(default_factory=Counter)
    box_sizes: Counter[str] = field(default_factory=Counter)
    box_places: Counter[str] = field(default_factory=Counter)
    images: set[bytes] = field(default_factory=set)
    questions: set[bytes] = field(default_factory=set)
    duplicates: int = 0

    def take(self, row: Mapping[str, Any]) -> None:
        """Count a row."""
        self.conversations += 1
        self.sources[row["source"]] += 1
        stored: Any = row["image"] or row.get("video")
        name = stored["path"] or hashlib.sha256(stored["bytes"]).hexdigest()
        image = _digest(f"{row['source']}\x00{name}".encode())
        self.images.add(image)
        for turn in orjson.loads(row["turns"]):
            if not isinstance(turn, dict):
                raise TypeError(f"a turn is {shown(turn)}")
            self._turn(turn, image, row["width"], row["height"])

    def _turn(self, turn: Mapping[str, Any], image: bytes, width: int, height: int) -> None:
        self.turns += 1
        self.tasks[turn["task"]] += 1
        words = 0
        for part in turn["question"]:
            text = part if isinstance(part, str) else part.get("description", "")
            words += len(text.split())
            self.prompts["text" if isinstance(part, str) else next(iter(part))] += 1
        self.question_words[_bin(words)] += 1
        key = _digest(image + orjson.dumps(turn["question"]))
        self.duplicates += key in self.questions
        self.questions.add(key)
        answer = turn.get("answer")
        if answer is None:
            return
        self.answer_words[_bin(len(answer["text"].split()))] += 1
        count = 0
        for phrase in answer.get("phrases", ()):
            for group in phrase["groups"]:
                for references in group["references"]:
                    count += 1
                    for unit in references:
                        self._unit(unit, width, height)
        self.references[count] += 1

    def _unit(self, unit: Mapping[str, Any] | None, width: int, height: int) -> None:
        if unit is None:
            self.units["undecoded"] += 1
            return
        ((kind, value),) = unit.items()
        self.units[kind] += 1
        if kind != "box":
            return
        x1, y1, x2, y2 = value
        area = (x2 - x1) * (y2 - y1)
        name = "small" if area < _SMALL else "medium" if area < _MEDIUM else "large"
        self.box_sizes[name] += 1
        column = min(int((x1 + x2) / 2 / width * 3), 2)
        line = min(int((y1 + y2) / 2 / height * 3), 2)
        self.box_places[f"{_THIRDS[1][line]} {_THIRDS[0][column]}"] += 1


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def _bin(words: int) -> str:
    low = 0
    for edge in _LENGTHS:
        if words < edge:
            break
        low = edge
    place = _LENGTHS.index(low) + 1 if low else 0
    if place == len(_LENGTHS):
        return f"{low} or more"
    high = _LENGTHS[place] - 1
    return str(low) if low == high else f"{low} to {high}"


def count_rows(rows: Iterable[Mapping[str, Any]]) -> Counts:
    """Count rows of shards.

    Raises:
        CheckpointError: A row is damaged.
    """
    counts = Counts()
    for row in rows:
        try:
            counts.take(row)
        except _DAMAGE as error:
            raise CheckpointError(
                f"row {row['id']}: damaged: {type(error).__name__}: {error}"
            ) from error
    return counts


def report(dataset: BuiltDataset) -> dict[str, Any]:
    """Return the contents and omissions of a data set as plain data.

    Box sizes are COCO's: small below 32 squared pixels, large from 96 squared. The place of a box is
    the ninth of the image that contains its centre.
    """
    counts = count_rows(dataset.rows())
    manifest = dataset.manifest
    return {
        "conversations": counts.conversations,
        "turns": counts.turns,
        "images": len(counts.images),
        "same_question_twice": counts.duplicates,
        "tasks": _ordered(counts.tasks),
        "sources": _ordered(counts.sources),
        "units": _ordered(counts.units),
        "prompts": _ordered(counts.prompts),
        "references": {str(key): n for key, n in sorted(counts.references.items())},
        "question_words": _by_start(counts.question_words),
        "answer_words": _by_start(counts.answer_words),
        "box_sizes": _ordered(counts.box_sizes),
        "box_places": _ordered(counts.box_places),
        "left_out": {
            name: {
                "images": source["images"],
                "quarantined": source["quarantined"],
                "quarantined_records": source["quarantined_records"],
                "filtered": source["filtered"],
                "normalised": source["normalised"],
            }
            for name, source in manifest["sources"].items()
        },
        "quarantine": manifest["quarantine"]["reasons"],
    }


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _by_start(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: int(item[0].split()[0])))


def as_text(content: Mapping[str, Any]) -> str:
    """Return a report as text for a terminal."""
    first = (
        f"{content['conversations']} conversations, {content['turns']} turns, "
        f"{content['images']} images; {content['same_question_twice']} questions asked twice "
        "of one image"
    )
    lines = [first]
    for name in (
        *("tasks", "sources", "units", "prompts", "references", "question_words"),
        *("answer_words", "box_sizes", "box_places", "quarantine"),
    ):
        values = content[name]
        if not values:
            continue
        total = sum(values.values())
        lines += ["", name.replace("_", " ")]
        width = max(map(len, values))
        lines += [f"  {key:{width}}  {n:>9}  {n / total:6.1%}" for key, n in values.items()]
    lines += ["", "left out"]
    for name, source in content["left_out"].items():
        lines.append(
            f"  {name}: of {source['images']} images {source['quarantined']} quarantined, "
            f"{source['filtered']['no_task_applies']} without a task that applies; "
            f"{source['quarantined_records']} single records quarantined"
        )
        lines += [f"    {note}: {n}" for note, n in source["normalised"].items()]
    return "\n".join(lines)
