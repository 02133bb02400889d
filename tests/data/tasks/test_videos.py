from collections.abc import Callable

import numpy as np
import pytest

from deixis.data.tasks import DEFAULT_RULES, TASKS, Rules, sample_turns
from deixis.errors import AnnotationError
from deixis.geometry import Box, DepthMap, ImageSize
from deixis.structures import (
    Expression,
    GroundedPhrase,
    GroundedText,
    Instance,
    QuestionAnswer,
    Sample,
    Turn,
    Video,
)

Maker = Callable[..., list[tuple[Sample, tuple[Turn, ...]]]]
VIDEO_TASKS = {"video_caption", "video_caption_detailed", "video_qa"}
SIZE = ImageSize(4, 6)


def frames() -> np.ndarray:
    return np.zeros((3, 4, 6, 3), np.uint8)


def sample(*captions: str, **more: object) -> Sample:
    told = tuple(map(GroundedText, captions))
    return Sample("v", Video(frames), SIZE, captions=told, **more)  # type: ignore[arg-type]  # of tests


def answers(task: str, one: Sample, rules: Rules = DEFAULT_RULES) -> set[str]:
    made = [TASKS[task].make(one, np.random.default_rng(seed), rules) for seed in range(40)]
    return {turn.answer.text for turns in made for turn in turns if turn.answer is not None}


def test_image_tasks_skip_videos_and_video_tasks_skip_images(
    samples: list[Sample], videos: list[Sample]
) -> None:
    assert {name for name, spec in TASKS.items() if spec.medium == "video"} == VIDEO_TASKS
    rng = np.random.default_rng(0)
    for name, spec in TASKS.items():
        for one in samples if name in VIDEO_TASKS else videos:
            assert spec.make(one, rng, DEFAULT_RULES) == ()
    assert all(sample_turns(one, rng, count=4) == () for one in videos)
    turns = [turn for one in videos for turn in sample_turns(one, rng, count=2, tasks=["video_qa"])]
    assert len(turns) > 20


def test_a_short_caption_is_any_caption_that_is_not_detailed() -> None:
    long = "A man walks in. Then he sits down."
    assert answers("video_caption", sample("a dog runs", long, "a cat sleeps.")) == {
        "A dog runs.",
        "A cat sleeps.",
    }
    longer = f"{long} Then he stands up again."
    assert answers("video_caption", sample(longer, long)) == {long}
    assert answers("video_caption_detailed", sample("a dog runs", long, longer)) == {longer}
    assert answers("video_caption_detailed", sample("a dog runs")) == set()
    assert answers("video_caption_detailed", sample("a dog runs"), Rules(detailed_words=3)) == {
        "A dog runs."
    }
    assert answers("video_caption", sample()) == set()


def test_captions_of_clips_are_those_of_the_sample(make: Maker) -> None:
    for task in ("video_caption", "video_caption_detailed"):
        for one, turns in make(task):
            for turn in turns:
                assert turn.answer is not None
                assert turn.answer.text in {caption.text for caption in one.captions}
                assert "video" in str(turn.question) or "clip" in str(turn.question)


def test_questions_keep_their_answers(make: Maker) -> None:
    for one, turns in make("video_qa"):
        known = {(asked.question, asked.answer) for asked in one.questions}
        for turn in turns:
            assert turn.answer is not None
            assert (turn.question[0], turn.answer.text) in known
    choices = sample(questions=(QuestionAnswer("Which?", "a", options=("a", "b")),))
    assert answers("video_qa", choices) == set()


@pytest.mark.parametrize(
    "more",
    [
        {"instances": (Instance("dog", Box(0, 0, 2, 2)),)},
        {"expressions": (Expression("the dog", ()),)},
        {"absent_categories": ("dog",)},
        {"captions": (GroundedText("a dog", (GroundedPhrase("dog", 2, 5),)),)},
        {"questions": (QuestionAnswer("What is it?", "a dog", region=Box(0, 0, 2, 2)),)},
        {"depth": DepthMap(np.ones((4, 6), np.float32), "metric")},
    ],
)
def test_a_video_has_no_geometry(more: dict[str, object]) -> None:
    with pytest.raises(AnnotationError, match="sample v: is of a video, expected captions without"):
        Sample("v", Video(frames), SIZE, **more)  # type: ignore[arg-type]  # of tests


def test_a_video_without_frames_is_refused() -> None:
    with pytest.raises(AnnotationError, match="a video of 0 frames, expected at least 1"):
        Video(frames, num_frames=0)
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(AnnotationError, match="seconds, expected 0 or more"):
            Video(frames, seconds=seconds)
