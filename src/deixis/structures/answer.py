"""The answer of a model, with a list of its problems."""

from dataclasses import dataclass

from deixis.geometry import ImageSize
from deixis.structures.units import GroundedPhrase, GroundedText


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a model's output: a stable ``code``, a message, and a character offset."""

    code: str
    message: str
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A grounded text about an image of ``size``; geometry is in that image's pixels.

    ``raw`` is what the model wrote, markers included. ``finish_reason`` is ``stop`` or ``length``.
    """

    grounded: GroundedText
    size: ImageSize
    raw: str = ""
    problems: tuple[Problem, ...] = ()
    finish_reason: str = "stop"

    @property
    def text(self) -> str:
        """The answer as words alone."""
        return self.grounded.text

    @property
    def phrases(self) -> tuple[GroundedPhrase, ...]:
        """The phrases that point, in order."""
        return self.grounded.phrases
