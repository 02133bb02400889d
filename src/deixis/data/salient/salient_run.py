"""Describes salient instances from masks in groups, with a journal, and writes JSON lines."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deixis.data.bootstrap.files import claim, dump_line, lines_file
from deixis.data.bootstrap.json_lines import description, image_fields
from deixis.data.bootstrap.round_trip_worker import pixels_of, read_journal, read_sample
from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.build_run import locked
from deixis.data.build.index import Index, make_index, read_block
from deixis.data.mixture import Mixture
from deixis.data.salient.captioners import Captioner
from deixis.data.salient.cutout import NEUTRAL, Cutout, cut_out
from deixis.data.salient.description_names import clean, tag_of
from deixis.data.sources.base import RecordProblem
from deixis.data.sources.registry import OpenedSource, refuse_videos
from deixis.errors import GeometryError, ImageError, RecipeError
from deixis.storage import append_lines, json_digest, write_json
from deixis.structures import ImageArray, Sample

DOMINANCE = 1.5
"""Least ratio of the subject's mask area to the next, if a source does not name the subject."""
TAGGED_BY = "rule: head of the first noun phrase"
NO_SUBJECT, NO_MASK, NO_WORDS, QUARANTINED, ASKED = (
    *("no_subject", "no_mask", "no_description", "quarantined"),
    "described",
)
_BLOCK = 32


@dataclass(frozen=True, slots=True)
class SalientPlan:
    """The plan of a run. Two plans with the same `digest` ask the same questions.

    Args:
        sources: Sources of images and masks.
        captioner: The record of the captioner.
        batch_size: Cut-outs that are described at once; an interruption loses at most one batch.
        limit: Largest number of images; None for all.
    """

    sources: tuple[OpenedSource, ...]
    captioner: Mapping[str, str]
    batch_size: int = 16
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.limit is not None and self.limit < 1):
            raise RecipeError("expected a batch size and a limit of at least 1")
        refuse_videos(self.sources, "describing salient instances")

    @property
    def indexed(self) -> BuildPlan:
        """The plan of the index of the same sources; its task is not used."""
        return BuildPlan(self.sources, Mixture((("salient", 1.0),)), shard_images=_BLOCK)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that the questions depend on."""
        return {
            "sources": self.indexed.to_dict()["sources"],
            "captioner": dict(sorted(self.captioner.items())),
            "batch_size": self.batch_size,
            "limit": self.limit,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of `to_dict`."""
        return json_digest(self.to_dict())


@dataclass(frozen=True, slots=True)
class SalientResult:
    """A finished run: its folder and its manifest."""

    folder: Path
    manifest: Mapping[str, Any]


def build_salient(
    plan: SalientPlan,
    out: Path,
    captioner: Captioner,
    *,
    read: Callable[[Path], ImageArray],
    progress: Callable[[int, int], None] | None = None,
) -> SalientResult:
    """Describe the subject of each image and derive its name from the description.

    Writes to ``out``: ``data/SOURCE.jsonl`` with the subject's name, mask, box and description, from
    which the task `salient` makes turns; ``quarantine.jsonl`` with records that cannot be used; and
    ``manifest.json`` with counts. An interrupted run continues.

    Args:
        plan: The plan of the run.
        out: A new or empty folder, or one with a run of the same plan.
        captioner: Describes the cut-outs.
        read: Returns the upright pixels of an image file.
        progress: Called with the number of finished images and the total.

    Raises:
        RecipeError: The folder holds a run of another plan.
        AnnotationError: An annotation file is damaged beyond its records.
        StorageError: A file cannot be written.
        LockedError: Another process works in the folder.
    """
    with locked(out):
        claim(out, plan.digest, plan.to_dict())
        manifest = out / "manifest.json"
        if manifest.exists():
            return SalientResult(out, json.loads(manifest.read_text(encoding="utf-8")))
        work = out / ".build"
        index = make_index(plan.indexed, work / "index")
        journal = work / "journal.jsonl"
        done = read_journal(journal)
        total = sum(count.images for count in index.counts.values())
        total = total if plan.limit is None else min(total, plan.limit)
        for group in _groups(plan, index, total):
            missing = [image.number for image in group if image.number not in done]
            if missing:
                entries = _describe(group, captioner, read)
                append_lines(
                    journal, [dump_line(one) for one in entries if one["image"] in missing]
                )
            if progress is not None:
                progress(group[-1].number + 1, total)
        result = _finish(plan, index, read_journal(journal), out)
        shutil.rmtree(work, ignore_errors=True)
        return SalientResult(out, result)


@dataclass(slots=True)
class _Image:
    number: int
    source: OpenedSource
    place: str
    fate: str
    problems: list[RecordProblem]
    sample: Sample | None = None
    subject: int = -1


def _groups(plan: SalientPlan, index: Index, total: int) -> Iterator[list[_Image]]:
    group: list[_Image] = []
    number = 0
    for block in range(index.blocks):
        for at, key, parts in read_block(index.block(block)):
            if number == total:
                break
            source = plan.sources[at]
            reading = read_sample(source, key, parts)
            image = _Image(number, source, parts[0].place, QUARANTINED, list(reading.problems))
            if reading.sample is not None:
                image.sample = reading.sample
                image.subject, image.fate = subject_of(reading.sample)
            group.append(image)
            number += 1
            if len(group) == plan.batch_size:
                yield group
                group = []
    if group:
        yield group


def subject_of(sample: Sample) -> tuple[int, str]:
    """Return the index of an image's subject and ``described``; without one, -1 and the reason.

    The subject is the instance that the source names. If the source names no instance, it is the
    instance with the clearly largest mask.
    """
    if sample.salient is not None:
        masked = sample.instances[sample.salient].mask is not None
        return (sample.salient, ASKED) if masked else (-1, NO_MASK)
    sizes = sorted(
        (-instance.mask.area, index)
        for index, instance in enumerate(sample.instances)
        if instance.mask is not None and not instance.crowd
    )
    if not sizes:
        return -1, NO_MASK if sample.instances else NO_SUBJECT
    if len(sizes) > 1 and sizes[0][0] > DOMINANCE * sizes[1][0]:
        return -1, NO_SUBJECT
    return sizes[0][1], ASKED


def _describe(
    group: Sequence[_Image], captioner: Captioner, read: Callable[[Path], ImageArray]
) -> list[dict[str, Any]]:
    cutouts: dict[int, Cutout] = {}
    for image in group:
        if image.sample is None or image.fate != ASKED:
            continue
        mask = image.sample.instances[image.subject].mask
        try:
            if mask is not None:
                cutouts[image.number] = cut_out(pixels_of(image.sample, read), mask)
        except ImageError as error:
            image.problems.append(RecordProblem("image_unreadable", str(error), image.place))
            image.fate = QUARANTINED
        except GeometryError as error:
            image.problems.append(RecordProblem("mask_damaged", str(error), image.place))
            image.fate = QUARANTINED
    words = captioner.describe(list(cutouts.values())) if cutouts else []
    said = dict(zip(cutouts, words, strict=True))
    return [_entry(image, said.get(image.number, ""), captioner.record) for image in group]


def _entry(image: _Image, words: str, record: Mapping[str, str]) -> dict[str, Any]:
    kept = None
    tag = tag_of(words)
    if image.fate == ASKED and image.sample is not None:
        if not tag:
            image.fate = NO_WORDS
        else:
            kept = _line(image.sample, image, words, tag, record)
    return {
        "image": image.number,
        "source": image.source.source.name,
        "fate": image.fate,
        "kept": kept,
        "faults": [
            {
                "source": image.source.source.name,
                "place": one.place or image.place,
                "code": one.code,
                "detail": one.detail,
            }
            for one in image.problems
        ],
    }


def _line(
    sample: Sample, image: _Image, words: str, tag: str, record: Mapping[str, str]
) -> dict[str, Any]:
    subject = sample.instances[image.subject]
    instances = list(sample.instances)
    instances[image.subject] = replace(subject, category=tag)
    fields = image_fields(replace(sample, instances=tuple(instances)), image.source)
    question = description(image.subject, clean(words), record.get("name", ""))
    question["provenance"] = {
        "described_by": dict(sorted(record.items())),
        "shown": f"the thing cut out by its mask, on grey {NEUTRAL}",
        "said": words,
        "tagged_by": TAGGED_BY,
        "annotated_class": subject.category,
    }
    return {**fields, "salient": image.subject, "questions": [question]}


def _finish(
    plan: SalientPlan, index: Index, done: Mapping[int, dict[str, Any]], out: Path
) -> dict[str, Any]:
    fates: dict[str, Counter[str]] = {one.source.name: Counter() for one in plan.sources}
    with ExitStack() as stack:
        kept = {name: stack.enter_context(lines_file(out, f"data/{name}.jsonl")) for name in fates}
        quarantine = stack.enter_context(lines_file(out, "quarantine.jsonl"))
        for name, problem in index.problems:
            quarantine.write(
                {
                    "source": name,
                    "place": problem.place,
                    "code": problem.code,
                    "detail": problem.detail,
                }
            )
        for number in sorted(done):
            entry = done[number]
            fates[entry["source"]][entry["fate"]] += 1
            if entry["kept"] is not None:
                kept[entry["source"]].write(entry["kept"])
            for one in entry["faults"]:
                quarantine.write(one)
    manifest = {
        "digest": plan.digest,
        "plan": plan.to_dict(),
        "sources": {
            one.source.name: {
                "spec": one.spec,
                "file": f"data/{one.source.name}.jsonl",
                "images": str(one.root),
                "image_fates": dict(sorted(fates[one.source.name].items())),
            }
            for one in plan.sources
        },
        "files": [file.describe() for file in (*kept.values(), quarantine)],
    }
    write_json(out / "manifest.json", manifest)
    return manifest
