"""Wordings of a user: a JSON file that replaces or extends the shipped wordings."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deixis.data.wording.grammar import QUESTION, expand, wordings
from deixis.data.wording.slots import SLOTS, check_wording
from deixis.errors import RecipeError

SIZE_LIMIT = 1_000_000
"""Most bytes of a wordings file."""

_RULE_NAME = re.compile("[a-z_]+")


@dataclass(frozen=True, slots=True)
class Wordings:
    """The wordings of all tasks.

    ``own`` holds the tasks with other than the shipped wordings, in alphabetical order.
    """

    own: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @staticmethod
    def default() -> "Wordings":
        """Return the shipped wordings."""
        return Wordings()

    def of(self, task: str) -> tuple[str, ...]:
        """Return all wordings of a task, in a fixed order.

        Raises:
            RecipeError: The task is unknown or its questions are not worded.
        """
        for name, texts in self.own:
            if name == task:
                return texts
        return wordings(task)

    def with_file(self, path: str | Path, *, add: bool = False) -> "Wordings":
        """Return wordings with those of a file instead of these, or added to these with ``add``.

        Tasks that the file does not name keep their wordings. `load_wordings` reads the file.

        Raises:
            RecipeError: The file cannot be read or does not have the form of `load_wordings`.
        """
        loaded = load_wordings(path)
        if add:
            loaded = {
                task: tuple(dict.fromkeys(self.of(task) + texts)) for task, texts in loaded.items()
            }
        return self._with(loaded)

    def fixed(self, prompts: Mapping[str, str] | None = None) -> "Wordings":
        """Return wordings with one for each task: the one in ``prompts``, else the first.

        Raises:
            RecipeError: A task is unknown, or a prompt does not have the slots of its task.
        """
        given = {} if prompts is None else prompts
        for task, text in given.items():
            _check_task(task, where="fixed wordings")
            check_wording(task, text, where=f"fixed wordings: task {task}")
        return self._with({task: (given.get(task) or self.of(task)[0],) for task in SLOTS})

    def _with(self, changed: Mapping[str, tuple[str, ...]]) -> "Wordings":
        return Wordings(tuple(sorted({**dict(self.own), **changed}.items())))


def load_wordings(path: str | Path) -> Mapping[str, tuple[str, ...]]:
    """Read a JSON object of wordings by task.

    The value of a task is a list of wordings, or a JSON object with the rule ``question`` and the
    rules that it names in angle brackets, each a list of texts. First letters become upper case.

    Raises:
        RecipeError: The file cannot be read, is too large or is not JSON; a task or a slot is
            unknown, a slot is missing, a type is wrong, or the rules do not expand.
    """
    where = f"wordings {path}"
    try:
        with Path(path).open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{where}: cannot be read: {error}") from error
    if len(data) > SIZE_LIMIT:
        raise RecipeError(f"{where}: larger than {SIZE_LIMIT} bytes")
    try:
        tasks = json.loads(data.decode("utf-8"), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{where}: is not JSON: {error}") from error
    if not isinstance(tasks, dict) or not tasks:
        raise RecipeError(f"{where}: expected a JSON object of wordings by task")
    return {task: _read_task(task, value, where=where) for task, value in tasks.items()}


def _read_task(task: str, value: object, *, where: str) -> tuple[str, ...]:
    _check_task(task, where=where)
    where = f"{where}: task {task}"
    given = value if isinstance(value, dict) else {QUESTION: value}
    rules = {rule: _read_lines(rule, lines, where=where) for rule, lines in given.items()}
    texts = expand(rules, where=where)
    for text in texts:
        check_wording(task, text, where=where)
    return texts


def _read_lines(rule: str, lines: object, *, where: str) -> list[str]:
    if not _RULE_NAME.fullmatch(rule):
        raise RecipeError(f"{where}: rule {rule[:40]!r}: expected a name of a to z and _")
    if not isinstance(lines, list):
        raise RecipeError(f"{where}: rule <{rule}>: expected a list of texts, got {_kind(lines)}")
    odd = [line for line in lines if not isinstance(line, str)]
    if odd:
        raise RecipeError(f"{where}: rule <{rule}>: expected texts, got {_kind(odd[0])} among them")
    return lines


def _check_task(task: str, *, where: str) -> None:
    if task not in SLOTS:
        raise RecipeError(f"{where}: unknown task {task!r}: expected one of {', '.join(SLOTS)}")


def _kind(value: object) -> str:
    kinds = {dict: "a JSON object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twin = next(name for name, count in times.items() if count > 1)
        raise ValueError(f"the name {twin!r} appears twice in one JSON object")
    return found
