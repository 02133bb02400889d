"""Conversations: turns whose questions may contain regions and whose answers have geometry."""

from dataclasses import dataclass

from deixis.errors import PromptError
from deixis.geometry import ImageSize
from deixis.structures.sample import ImageSource
from deixis.structures.units import GroundedText, Region
from deixis.structures.video import Video

IGNORE_INDEX = -100
"""Label of a token without loss."""

QuestionPart = str | Region
"""A part of a question: text, or a region at the place where the question mentions it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, with its answer in training data.

    ``task`` names the task that made the turn; ``weight`` scales its loss.
    """

    question: tuple[QuestionPart, ...]
    answer: GroundedText | None = None
    task: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not any(not isinstance(part, str) or part.strip() for part in self.question):
            raise PromptError("a question is empty: expected text or a region")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns about one image or video.

    ``independent`` turns do not see one another: many separate questions about one image, which is
    encoded once. Otherwise each turn sees the turns before it.
    """

    id: str
    image: ImageSource | Video | None
    size: ImageSize | None
    turns: tuple[Turn, ...]
    independent: bool = False
