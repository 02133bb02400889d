"""Which tasks, how often: what a build makes of each image."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deixis.errors import RecipeError

_ENTRY = re.compile(r"([a-z][a-z0-9_]*)(?:\*(\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class Mixture:
    """Tasks, each with its rate: how many times it is tried on each image, on average.

    A rate of 0.25 tries it on every fourth image, drawn by the image's own seed; 2 tries twice.
    """

    rates: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.rates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            raise RecipeError(f"mixture: expected each task once, got {names}")
        wrong = [(name, rate) for name, rate in self.rates if not 0 < rate <= 1000]
        if wrong:
            raise RecipeError(f"mixture: rate {wrong[0][1]} of {wrong[0][0]}: expected 0 to 1000")

    def __str__(self) -> str:
        return ",".join(name if rate == 1 else f"{name}*{rate:g}" for name, rate in self.rates)


def parse_mixture(text: str, *, known: Mapping[str, object]) -> Mixture:
    """Read ``rec,res*2,count*0.5``, or the name of a mixture.

    Args:
        text: Task names with rates, or one name of `MIXTURES`.
        known: Names of tasks that there are.

    Raises:
        RecipeError: A task is unknown, comes twice, or has a rate that is none.
    """
    if text in MIXTURES:
        return Mixture(tuple(MIXTURES[text].items()))
    rates = []
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None or match[1] not in known:
            raise RecipeError(
                f"task {entry.strip()!r}: expected one of {sorted(known)}, as NAME or NAME*RATE, "
                f"or one mixture of {sorted(MIXTURES)}"
            )
        rates.append((match[1], float(match[2] or 1)))
    return Mixture(tuple(rates))


MIXTURES: Mapping[str, Mapping[str, float]] = {
    "pointing": {
        "rec": 1,
        "res": 1,
        "detection": 1,
        "segmentation": 0.5,
        "count": 0.5,
        "reg": 1,
        "caption": 0.5,
        "gcg": 0.5,
        "region_qa": 1,
        "vqa": 1,
    },
}
"""Mixtures by name."""
