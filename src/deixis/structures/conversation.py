"""Conversations: turns whose questions hold regions and whose answers hold geometry."""

from dataclasses import dataclass

from deixis.errors import PromptError
from deixis.geometry import ImageSize
from deixis.structures.sample import ImageSource
from deixis.structures.units import GroundedText, Region
from deixis.structures.video import Video

IGNORE_INDEX = -100
"""Label of a token that carries no loss."""

QuestionPart = str | Region
"""A question is text with regions standing in it where they are meant."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and, in data, its answer.

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

    ``independent`` turns do not see one another (many questions asked afresh of one image,
    encoded once); otherwise each turn sees those before it.
    """

    id: str
    image: ImageSource | Video | None
    size: ImageSize | None
    turns: tuple[Turn, ...]
    independent: bool = False
