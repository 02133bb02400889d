"""Questions about drawn scenes with the truth that their answers are scored against."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from deixis.data.scenes import draw_scene
from deixis.data.scenes.scene_sample import scene_sample
from deixis.data.scenes.splits import BENCHMARK_SEED, scene_expressions
from deixis.data.tasks.prompts import with_region
from deixis.data.tasks.things import draw_class
from deixis.data.wording import REGION_SLOT
from deixis.errors import BenchmarkError
from deixis.geometry import Box, Mask
from deixis.language import count_word, definite, is_plural, plural
from deixis.structures import ImageArray, QuestionAnswer, QuestionPart, Sample, Video

PER_SCENE = 2
"""Largest number of questions of one scene, so that no scene has a large weight."""

_CLASS_STREAM = 7
"""Third number of the seed that classes are drawn with; no other draw uses it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question and its truth.

    ``targets`` are indices of the instances that the answer must point at; empty if no instance
    fits. ``texts`` are the right answers in words.
    """

    id: str
    sample: Sample
    question: tuple[QuestionPart, ...]
    targets: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def image(self) -> Path | ImageArray:
        """The image of the sample, drawn if it is a scene.

        Raises:
            BenchmarkError: The sample is a video.
        """
        image = self.sample.image
        if isinstance(image, Video):
            raise BenchmarkError(f"example {self.id}: is about a video, expected an image")
        return image() if callable(image) else image

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Boxes of the targets."""
        return tuple(self.sample.instances[index].box for index in self.targets)

    @property
    def mask(self) -> Mask:
        """The union of the targets' masks; empty without targets.

        Raises:
            BenchmarkError: A target has no mask.
        """
        union = np.zeros(tuple(self.sample.size), dtype=np.bool_)
        for index in self.targets:
            mask = self.sample.instances[index].mask
            if mask is None:
                raise BenchmarkError(f"example {self.id}: instance {index} has no mask")
            union |= mask.array
        return Mask(union)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the image, the question or the truth."""
        image = self.image
        digest = hashlib.sha256(repr((self.id, self.question, tuple(self.sample.size))).encode())
        digest.update(repr((self.boxes, self.texts)).encode())
        if isinstance(image, np.ndarray):
            digest.update(image.tobytes())
        for index in self.targets:
            mask = self.sample.instances[index].mask
            digest.update(b"" if mask is None else np.packbits(mask.array).tobytes())
        return digest.hexdigest()[:16]


def expression_examples(family: str, split: str, *, level: str, wording: str) -> Iterator[Example]:
    """Yield examples without end that put each expression of a set into one wording."""
    for sample, expression in scene_expressions(family, split, level=level):
        text = wording.format(
            **{"x": definite(expression.text), "is": "are" if is_plural(expression.text) else "is"}
        )
        name = f"{sample.id}/expression/{sample.expressions.index(expression)}"
        yield Example(name, sample, (text,), expression.instances)


def class_examples(split: str, *, level: str, wording: str) -> Iterator[Example]:
    """Yield examples without end that ask for all instances of a class, or for their number.

    One of each scene; a class may be absent, and may have an attribute before it.
    """
    for sample, index in _samples(split, level=level):
        drawn = draw_class(sample, np.random.default_rng([BENCHMARK_SEED, index, _CLASS_STREAM]))
        if drawn is None:
            continue
        name, instances = drawn
        question = wording.format(name=name, names=plural(name))
        number = len(instances)
        yield Example(
            f"{sample.id}/class/0",
            sample,
            (question,),
            tuple(instances),
            texts=(str(number), count_word(number)),
        )


def description_examples(split: str, *, level: str, wording: str) -> Iterator[Example]:
    """Yield examples without end that ask for a description of the instance in a box."""
    for sample, _ in _samples(split, level=level):
        known = [
            (question, question.instance)
            for question in sample.questions
            if question.kind == "description" and question.instance is not None
        ]
        for number, (question, index) in enumerate(known[:PER_SCENE]):
            parts = with_region(wording, sample.instances[index].box, slot="{region}")
            yield Example(
                f"{sample.id}/description/{number}", sample, parts, texts=(question.answer,)
            )


def region_question_examples(split: str, *, level: str, wording: str) -> Iterator[Example]:
    """Yield examples without end that ask the data's own questions about instances, given as boxes."""
    for sample, _ in _samples(split, level=level):
        known = [
            (question, question.instance)
            for question in sample.questions
            if question.kind != "description" and question.instance is not None
        ]
        for number, (question, index) in enumerate(known[:PER_SCENE]):
            text = wording.format(question=question.question)
            parts = with_region(text, sample.instances[index].box, slot=REGION_SLOT)
            yield Example(
                f"{sample.id}/region_question/{number}", sample, parts, texts=(question.answer,)
            )


def image_question_examples(split: str, *, level: str, wording: str) -> Iterator[Example]:
    """Yield examples without end that ask the data's own questions about the whole image."""
    for sample, _ in _samples(split, level=level):
        known = [question for question in sample.questions if _is_about_image(question)]
        for number, question in enumerate(known[:PER_SCENE]):
            parts = (wording.format(question=question.question),)
            yield Example(f"{sample.id}/question/{number}", sample, parts, texts=(question.answer,))


def _is_about_image(question: QuestionAnswer) -> bool:
    return question.instance is None and question.region is None


def _samples(split: str, *, level: str) -> Iterator[tuple[Sample, int]]:
    for index in count():
        yield scene_sample(draw_scene(BENCHMARK_SEED, index, level=level, split=split)), index
