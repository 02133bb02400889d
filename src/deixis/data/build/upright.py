"""Checks the file of a sample's image and converts the sample to the source frame."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.image_header import ImageHeader, read_header
from deixis.data.sources.reading.inside import check_inside
from deixis.data.sources.reading.video_header import video_of
from deixis.geometry import Orient, Transform
from deixis.structures import (
    GroundedPhrase,
    GroundedText,
    Instance,
    QuestionAnswer,
    Reference,
    Sample,
    UnitGroup,
    Video,
)


def checked_sample(
    sample: Sample, *, root: Path, orientation: str = "auto", notes: dict[str, int]
) -> Sample:
    """Check the sample's file, and return the sample in the source frame (the upright image).

    Annotations of an image with an EXIF rotation may be in the stored or in the source frame. With
    ``auto`` the annotated size decides if it can; ``raw`` (stored) and ``upright`` declare the frame.

    Raises:
        BadRecord: The file is missing, damaged, outside ``root`` or of another size, or the
            orientation of the annotations is ambiguous.
    """
    if isinstance(sample.image, Video):
        _check_video(sample, sample.image, root)
        return sample
    if not isinstance(sample.image, Path):
        return sample
    check_inside(sample.image, root)
    header = read_header(sample.image)
    frame = _frame(sample, header, orientation)
    if frame == "upright":
        return sample
    notes["turned_upright"] = notes.get("turned_upright", 0) + 1
    return turned(sample, Orient(header.stored, header.orientation))


def _check_video(sample: Sample, video: Video, root: Path) -> None:
    """Check that the video exists and that its upright frames have the size of the sample."""
    if callable(video.content):
        return
    _, size = video_of(video.content)
    if size != sample.size:
        raise BadRecord("size_mismatch", f"said to be {sample.size}, its frames are {size}")
    if isinstance(video.content, Path):
        check_inside(video.content, root)


def _frame(sample: Sample, header: ImageHeader, orientation: str) -> str:
    stored, upright, size = header.stored, header.upright, sample.size
    if size not in {stored, upright}:
        raise BadRecord("size_mismatch", f"annotated as {size}, stored as {stored}")
    if header.orientation == 1:
        return "upright"
    if orientation != "auto":
        if size != (stored if orientation == "raw" else upright):
            expected = stored if orientation == "raw" else upright
            raise BadRecord("size_mismatch", f"annotated as {size}, {orientation} it is {expected}")
        return orientation
    if stored == upright:
        raise BadRecord(
            "orientation_ambiguous",
            f"EXIF orientation {header.orientation}, {size}; say orientation=raw or upright",
        )
    return "upright" if size == upright else "raw"


def turned(sample: Sample, move: Transform) -> Sample:
    """Return the sample with ``move`` applied to all its geometry."""

    def turn(unit: Any) -> Any:
        return None if unit is None else move.apply(unit)

    return replace(
        sample,
        size=move.target,
        instances=tuple(_instance(one, turn) for one in sample.instances),
        captions=tuple(_text(caption, turn) for caption in sample.captions),
        questions=tuple(_question(one, turn) for one in sample.questions),
        depth=turn(sample.depth),
    )


def _instance(instance: Instance, turn: Callable[[Any], Any]) -> Instance:
    return replace(
        instance,
        box=turn(instance.box),
        mask=turn(instance.mask),
        keypoints=turn(instance.keypoints),
        oriented=turn(instance.oriented),
    )


def _question(question: QuestionAnswer, turn: Callable[[Any], Any]) -> QuestionAnswer:
    answer = _text(GroundedText(question.answer, question.phrases), turn)
    return replace(question, region=turn(question.region), phrases=answer.phrases)


def _text(text: GroundedText, turn: Callable[[Any], Any]) -> GroundedText:
    phrases = []
    for phrase in text.phrases:
        groups = tuple(
            UnitGroup(
                group.unit_types,
                tuple(
                    Reference(tuple(map(turn, reference.units)), reference.score)
                    for reference in group.references
                ),
            )
            for group in phrase.groups
        )
        phrases.append(GroundedPhrase(phrase.text, phrase.start, phrase.end, groups))
    return GroundedText(text.text, tuple(phrases))
