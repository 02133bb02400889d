"""The work of a bootstrapping worker: it processes a block in groups of images.

A block's journal has one line for each image. The lines of a group are on the disk before the worker
asks about the next group. Groups depend only on the plan. A worker asks all questions of an
interrupted group again and adds only the missing lines. So the contents of batches, and with them
the last digits of all numbers, do not depend on interruptions.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deixis.data.bootstrap.bootstrap_plan import BootstrapPlan
from deixis.data.bootstrap.files import dump_line
from deixis.data.bootstrap.grounded_captions import remapped
from deixis.data.bootstrap.json_lines import corners, description, image_fields
from deixis.data.bootstrap.round_trip import Asker, RoundTrip, ask_in_batches, round_trips
from deixis.data.build.framed import read_framed
from deixis.data.build.index import Index, read_block
from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.registry import OpenedSource
from deixis.errors import DeixisError, ImageError
from deixis.language import sentence
from deixis.storage import append_lines, read_lines, waited_folder
from deixis.structures import ImageArray, Sample, Video

ASKED, QUARANTINED, CROWDED, NOTHING = "asked", "quarantined", "too_many_objects", "nothing_to_ask"
"""Outcomes of an image."""
CROWD, SMALL = "crowd", "too_small"
"""Reasons for which an instance of a described image is skipped."""


@dataclass(frozen=True, slots=True)
class Job:
    """The input of every worker.

    ``open_model`` and ``read`` are pickled for other processes. ``open_model`` returns the model,
    and ``read`` the upright pixels of an image file.
    """

    plan: BootstrapPlan
    index: Index
    folder: Path
    open_model: Callable[[], Asker]
    read: Callable[[Path], ImageArray]
    parent: int | None = None

    def journal(self, number: int) -> Path:
        """Return the path of a block's journal."""
        return self.folder / f"journal-{number:06d}.jsonl"

    def count(self, number: int) -> int:
        """Return the number of images of a block."""
        total = min(self.images, (number + 1) * self.plan.block_images)
        return total - number * self.plan.block_images

    @property
    def images(self) -> int:
        """Number of images of all sources, at most ``limit``."""
        total = sum(count.images for count in self.index.counts.values())
        return total if self.plan.limit is None else min(total, self.plan.limit)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.images // self.plan.block_images)


@dataclass(slots=True)
class _Image:
    """An image of a block and its instances to describe; none if the image is skipped."""

    number: int
    source: OpenedSource
    fate: str
    sample: Sample | None = None
    place: str = ""
    described: list[int] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    problems: list[RecordProblem] = field(default_factory=list)
    pixels: ImageArray | None = None

    @property
    def questions(self) -> int:
        return len(self.described)


def run_blocks(
    job: Job, numbers: Sequence[int], on_images: Callable[[int], None] | None = None
) -> None:
    """Add the missing lines of some blocks; the model is opened at most once.

    Args:
        job: The input of all workers.
        numbers: Blocks, in the order of processing.
        on_images: Called with the number of lines added.
    """
    asker: Asker | None = None
    for number in numbers:
        journal = job.journal(number)
        # a worker of a killed run may still write this journal
        with waited_folder(job.folder, name=f"{journal.stem}.lock"):
            done = read_journal(journal)
            if len(done) == job.count(number):
                continue
            asker = asker or job.open_model()
            for group in _groups(job, number):
                # workers of a killed run exit here
                if job.parent is not None and os.getppid() != job.parent:
                    os._exit(1)
                missing = [image.number for image in group if image.number not in done]
                if not missing:
                    continue
                entries = _ask(job, asker, group)
                lines = [dump_line(entry) for entry in entries if entry["image"] in missing]
                append_lines(journal, lines)
                if on_images is not None:
                    on_images(len(lines))


def read_journal(path: Path) -> dict[int, dict[str, Any]]:
    """Return the entries of a journal by image number; damaged lines are ignored."""
    done: dict[int, dict[str, Any]] = {}
    for line in read_lines(path):
        try:
            entry = json.loads(line)
            done[int(entry["image"])] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return done


def _groups(job: Job, number: int) -> Iterator[list[_Image]]:
    """Yield the images of a block in groups that fill a batch of questions."""
    plan = job.plan
    group: list[_Image] = []
    for at, (source, key, parts) in enumerate(read_block(job.index.block(number))):
        if at == job.count(number):
            break
        group.append(_look(plan, at, plan.sources[source], key, parts))
        if sum(image.questions for image in group) >= plan.batch_size:
            yield group
            group = []
    if group:
        yield group


def _look(
    plan: BootstrapPlan, at: int, source: OpenedSource, key: str, parts: Sequence[Part]
) -> _Image:
    """Read an image's annotations and choose the instances to describe."""
    image = _Image(at, source, ASKED, place=parts[0].place)
    reading = read_sample(source, key, parts)
    image.problems = list(reading.problems)
    image.sample = reading.sample
    if image.sample is None:
        image.fate = QUARANTINED
        return image
    instances = image.sample.instances
    if plan.max_objects is not None and len(instances) > plan.max_objects:
        image.fate = CROWDED
        return image
    skipped = {CROWD: 0, SMALL: 0}
    for index, instance in enumerate(instances):
        if instance.crowd:
            skipped[CROWD] += 1
        elif plan.min_area is not None and instance.box.area <= plan.min_area:
            skipped[SMALL] += 1
        else:
            image.described.append(index)
    image.skipped = {name: count for name, count in skipped.items() if count}
    if not image.described and not plan.captions:
        image.fate = NOTHING
    return image


def read_sample(source: OpenedSource, key: str, parts: Sequence[Part]) -> Reading:
    """Read an image's parts and check its file; return problems instead of raising them."""
    place = parts[0].place
    try:
        reading = read_framed(source, key, parts)
        if reading.sample is None:
            return reading
        image_fields(reading.sample, source)
    except BadRecord as error:
        return Reading(None, (RecordProblem(error.code, error.detail, place),))
    except DeixisError as error:
        return Reading(None, (RecordProblem("bad_record", str(error), place),))
    return reading


def _ask(job: Job, asker: Asker, group: Sequence[_Image]) -> list[dict[str, Any]]:
    """Ask all questions about a group of images."""
    for image in group:
        if image.fate == ASKED:
            _load(image, job.read)
    asked = [image for image in group if image.fate == ASKED]
    pairs = [(image, index) for image in asked for index in image.described]
    boxes = [
        (image.pixels, image.sample.instances[index].box)
        for image, index in pairs
        if image.pixels is not None and image.sample is not None
    ]
    plan = job.plan
    trips = round_trips(asker, boxes, plan.prompts, iou=plan.iou, batch_size=plan.batch_size)
    of_image: dict[int, list[tuple[int, RoundTrip]]] = {image.number: [] for image in group}
    for (image, index), trip in zip(pairs, trips, strict=True):
        of_image[image.number].append((index, trip))
    captions = _captions(job, asker, asked) if plan.captions else {}
    entries = []
    for image in group:
        entries.append(_entry(plan, image, of_image[image.number], captions.get(image.number, [])))
        image.pixels = None
    return entries


def pixels_of(sample: Sample, read: Callable[[Path], ImageArray]) -> ImageArray:
    """Return the upright pixels of a sample's image.

    Raises:
        ImageError: The image cannot be read, or the sample is a video.
    """
    if isinstance(sample.image, Video):
        raise ImageError(f"sample {sample.id}: expected an image, got a video")
    if isinstance(sample.image, Path):
        return read(sample.image)
    return sample.image() if callable(sample.image) else sample.image


def _load(image: _Image, read: Callable[[Path], ImageArray]) -> None:
    if image.sample is None:
        return
    try:
        image.pixels = pixels_of(image.sample, read)
    except ImageError as error:
        image.problems.append(RecordProblem("image_unreadable", str(error), image.place))
        image.fate, image.described, image.skipped = QUARANTINED, [], {}


def _captions(job: Job, asker: Asker, asked: Sequence[_Image]) -> dict[int, list[dict[str, Any]]]:
    """Return the usable plain and grounded captions by image number."""
    plan = job.plan
    questions = [
        (image.pixels, (prompt,))
        for image in asked
        if image.pixels is not None
        for prompt in (plan.prompts.caption, plan.prompts.ground)
    ]
    answers = ask_in_batches(asker, questions, plan.batch_size)
    made: dict[int, list[dict[str, Any]]] = {}
    for image, plain, grounded in zip(asked, answers[::2], answers[1::2], strict=True):
        found: list[dict[str, Any]] = []
        if plain.text.strip() and plain.finish_reason != "length":
            found.append({"text": plain.text, "provenance": _asked(plan, plan.prompts.caption)})
        boxes = [] if image.sample is None else [one.box for one in image.sample.instances]
        pointing = remapped(grounded, boxes, iou=plan.iou)
        if pointing is not None:
            found.append({**pointing, "provenance": _asked(plan, plan.prompts.ground)})
        made[image.number] = found
    return made


def _asked(plan: BootstrapPlan, *prompts: str) -> dict[str, Any]:
    return {"model": dict(sorted(plan.model.items())), "prompts": list(prompts)}


def _entry(
    plan: BootstrapPlan,
    image: _Image,
    trips: Sequence[tuple[int, RoundTrip]],
    captions: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return the journal entry of an image."""
    name = image.source.source.name
    entry: dict[str, Any] = {
        "image": image.number,
        "source": name,
        "fate": image.fate,
        "objects": 0 if image.sample is None else len(image.sample.instances),
        "skipped": image.skipped,
        "kept": None,
        "dropped": [],
        "faults": [
            {
                "source": name,
                "place": one.place or image.place,
                "code": one.code,
                "detail": one.detail,
            }
            for one in image.problems
        ],
    }
    if image.sample is None or image.fate != ASKED:
        return entry
    expressions, questions = [], []
    for index, trip in trips:
        if trip.reason:
            entry["dropped"].append(_dropped(image.sample, index, trip))
            continue
        provenance = {
            **_asked(plan, plan.prompts.describe, plan.prompts.locate),
            "threshold": plan.iou,
            "iou": trip.iou,
            "num_found": trip.num_found,
        }
        expressions.append({"text": trip.expression, "objects": [index], "provenance": provenance})
        answer = trip.answer if trip.answer[-1] in ".!?" else sentence(trip.answer)
        questions.append(description(index, answer, plan.model["name"]))
    made = {"expressions": expressions, "questions": questions, "captions": list(captions)}
    if any(made.values()):
        fields = image_fields(image.sample, image.source)
        entry["kept"] = {**fields, **{name: value for name, value in made.items() if value}}
    return entry


def _dropped(sample: Sample, index: int, trip: RoundTrip) -> dict[str, Any]:
    return {
        "id": sample.id,
        "object": index,
        "category": sample.instances[index].category,
        "box": corners(sample.instances[index].box),
        "answer": trip.answer,
        "expression": trip.expression,
        "found": None if trip.found is None else corners(trip.found),
        "num_found": trip.num_found,
        "iou": trip.iou,
        "reason": trip.reason,
    }
