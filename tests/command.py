"""How a command of the command line ended, for its tests."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """An exit code and what was printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]
