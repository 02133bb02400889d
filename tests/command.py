"""Result of a command of the command line."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """An exit code and what was printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]
