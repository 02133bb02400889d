"""Video tasks: ``video_caption``, ``video_caption_detailed``, and questions from the source."""

import numpy as np

from deixis.data.tasks.answering import about_image
from deixis.data.tasks.answers import ended, pick
from deixis.data.tasks.prompts import asked
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.structures import GroundedText, Sample, Turn


def video_caption(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for a caption that is not detailed, or for the shortest if all are detailed."""
    if not sample.captions:
        return None
    texts = [caption.text for caption in sample.captions]
    short = [text for text in texts if not _is_detailed(text, rules)]
    chosen = pick(short or [min(texts, key=len)], rng)
    return Turn(asked("video_caption", rng, rules), GroundedText(ended(chosen)), "video_caption")


def video_caption_detailed(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for the longest caption; None if it is not detailed."""
    texts = [caption.text for caption in sample.captions if _is_detailed(caption.text, rules)]
    if not texts:
        return None
    task = "video_caption_detailed"
    return Turn(asked(task, rng, rules), GroundedText(ended(max(texts, key=len))), task)


def video_qa(sample: Sample, rng: np.random.Generator, _rules: Rules) -> Turn | None:
    """Ask a question from the source about the video."""
    known = about_image(sample)
    if not known:
        return None
    chosen = pick(known, rng)
    return Turn((chosen.question,), GroundedText(ended(chosen.answer)), "video_qa")


def _is_detailed(text: str, rules: Rules) -> bool:
    return ". " in text.strip() or len(text.split()) >= rules.detailed_words


SPECS = (
    TaskSpec(
        name="video_caption",
        family="videos",
        summary="A short caption of a video.",
        needs="a video with a caption",
        takes=("text",),
        gives=("words",),
        rules=("detailed_words", "wording"),
        wordings=("video_caption",),
        make=single(video_caption),
        medium="video",
    ),
    TaskSpec(
        name="video_caption_detailed",
        family="videos",
        summary="A detailed caption of a video.",
        needs="a video with a caption with several sentences, or a long one",
        takes=("text",),
        gives=("words",),
        rules=("detailed_words", "wording"),
        wordings=("video_caption_detailed",),
        make=single(video_caption_detailed),
        medium="video",
    ),
    TaskSpec(
        name="video_qa",
        family="videos",
        summary="A question from the source about a video.",
        needs="a video with a question about it",
        takes=("text",),
        gives=("words",),
        rules=(),
        wordings=(),
        make=single(video_qa),
        medium="video",
    ),
)
