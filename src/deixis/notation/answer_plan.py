"""The optional plan before an answer: its phrases, their unit types and numbers of references.

REF-VLM's public code calls it the visual decoding chain of thought.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deixis.notation.drafts import PhraseEnd, walk
from deixis.notation.problems import ProblemLog
from deixis.notation.unit_names import canonical_unit
from deixis.structures.units import GroundedText

_HEADER_TRUE = "Unit decode (True). Class name, target unit and number:"
_HEADER_FALSE = "Unit decode (False)."


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """One planned group: a phrase, its unit types joined by commas, the number of references."""

    name: str
    unit: str
    count: int


def plan_of(answer: GroundedText) -> tuple[PlanEntry, ...]:
    """Return the plan of an answer, one entry for each unit group in writing order."""
    return tuple(
        PlanEntry(_one_line(item.phrase.text), ",".join(group.unit_types), len(group.references))
        for item in walk(answer)
        if isinstance(item, PhraseEnd)
        for group in item.phrase.groups
    )


def format_plan(entries: Sequence[PlanEntry]) -> str:
    """Return the text between the task markers."""
    if not entries:
        return f"\n{_HEADER_FALSE}\n"
    lines = [f"- Name: {each.name} Unit: {each.unit} Num: {each.count}" for each in entries]
    return "\n".join(["", _HEADER_TRUE, *lines, ""])


def parse_plan(
    text: str, problems: ProblemLog, position: int | None = None
) -> tuple[PlanEntry, ...]:
    """Read the text between the task markers; invalid lines become problems."""
    entries: list[PlanEntry] = []
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    header = lines.pop(0) if lines and lines[0].startswith("Unit decode") else ""
    if not header:
        problems.add("malformed_plan", "the plan does not say whether units follow", position)
    for line in lines:
        entry = _parse_entry(line)
        if entry is None:
            problems.add("malformed_plan", f"{line[:80]!r} is no entry of a plan", position)
        else:
            entries.append(entry)
    if header and header.startswith(_HEADER_FALSE) == bool(entries):
        problems.add(
            "malformed_plan",
            f"the plan says {header[:20]!r} and has {len(entries)} entries",
            position,
        )
    return tuple(entries)


def validate_plan(
    entries: Sequence[PlanEntry],
    answer: GroundedText,
    problems: ProblemLog,
    position: int | None = None,
) -> None:
    """Compare planned and given numbers of references, in total for each phrase and unit."""
    planned, given = _totals(entries), _totals(plan_of(answer))
    for key in [*planned, *(key for key in given if key not in planned)]:
        if planned.get(key) != given.get(key):
            name, unit = key
            problems.add(
                "plan_mismatch",
                f"{name[:80]!r} with unit {unit[:80]!r}: the plan says "
                f"{planned.get(key, 'nothing')}, the answer has {given.get(key, 'nothing')}",
                position,
            )


def _totals(entries: Sequence[PlanEntry]) -> Counter[tuple[str, str]]:
    totals: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        totals[entry.name, entry.unit] += entry.count
    return totals


def _parse_entry(line: str) -> PlanEntry | None:
    body, _, count = line.rpartition(" Num: ")
    name, found, unit = body.rpartition(" Unit: ")
    # at most eighteen digits: int() is slow for a longer run and raises for a very long one
    sound = count.isascii() and count.isdigit() and len(count) < 19
    if not (sound and found and name.startswith("- Name:")):
        return None
    units = ",".join(_canonical_units(unit))
    return PlanEntry(_one_line(name.removeprefix("- Name:")), units, int(count))


def _canonical_units(text: str) -> Iterator[str]:
    for name in text.split(","):
        yield canonical_unit(name) or _one_line(name)


def _one_line(text: str) -> str:
    return " ".join(text.split())
