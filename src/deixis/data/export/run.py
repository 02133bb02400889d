"""Runs an export: writes samples in the order of their keys, and lists those it cannot write."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.framed import read_framed
from deixis.data.build.index import Index, make_index, read_block
from deixis.data.export.files import Records
from deixis.data.export.formats import EXPORT_FORMATS, ExportOptions
from deixis.data.export.items import Item, Losses, Writer, content, split_name
from deixis.data.export.jsonl import JsonLinesWriter
from deixis.data.export.pictures import Pictures
from deixis.data.mixture import Mixture
from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.registry import OpenedSource, refuse_videos
from deixis.errors import AnnotationError, BudgetError, DeixisError, GeometryError, RecipeError
from deixis.structures import Video

DETAIL_LIMIT = 200
_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")


@dataclass(slots=True)
class ExportReport:
    """Counts of an export: ``images`` is the sum of ``written`` and ``quarantined``.

    ``partly`` counts images that were written without some of their records, and ``records`` these
    records and those without an image. ``not_carried`` counts contents that the format cannot hold,
    ``normalised`` changes by documented rules. Picture names are relative to ``root``.
    """

    images: int = 0
    written: int = 0
    quarantined: int = 0
    partly: int = 0
    lost: int = 0
    records: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    not_carried: Counter[str] = field(default_factory=Counter)
    normalised: Counter[str] = field(default_factory=Counter)
    root: Path = Path()

    @property
    def share_at_problem(self) -> float:
        """The share of images, and of records without an image, that have a problem."""
        seen = self.images + self.lost
        return (self.quarantined + self.partly + self.lost) / seen if seen else 0.0


def export_samples(
    sources: Sequence[OpenedSource],
    form: str,
    out: Path,
    *,
    quarantine: Path,
    options: ExportOptions | None = None,
    budget: float = 0.01,
    near: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write the samples of sources in a format.

    Memory does not grow with the sources: parts are sorted on the disk, and each record is written
    at once. Images are in the order of their sources and keys, so the same sources give the same
    bytes.

    Args:
        sources: The sources, with unique names.
        form: A key of `EXPORT_FORMATS`; or ``lines``, which is ``jsonl`` as one file without copies
            of pictures.
        out: An empty folder, or the file for ``lines``. The caller makes it appear whole.
        quarantine: The file for images and records with problems, one JSON object per line.
        options: Options of the format.
        budget: The share of images that may have problems.
        near: Names of pictures that are not copied are relative to this folder if it contains all
            pictures, else to the innermost folder that does.
        progress: Called with the number of finished images and the total.

    Raises:
        RecipeError: The format or an option is unknown, a source has videos, or drawn images would
            have to be referred to by name.
        AnnotationError: A file is damaged beyond its records.
        BudgetError: More images have problems than the budget allows; the quarantine file is
            complete.
        StorageError: A file cannot be written.
    """
    refuse_videos(sources, f"the format {form}")
    options = options or ExportOptions()
    losses = Losses()
    if form == "lines":
        writer: Writer = JsonLinesWriter(out, losses)
        pictures = Pictures(sources, out.parent, mode="reference", near=near)
        place = ""
    elif form in EXPORT_FORMATS:
        chosen = EXPORT_FORMATS[form]
        writer = chosen.open(out, losses, options)
        mode = "copy" if options.copy_images else "link" if chosen.brings_images else "reference"
        pictures = Pictures(sources, out, mode=mode, near=near, flat=chosen.flat)
        place = chosen.place
    else:
        raise RecipeError(f"format {form!r}: expected one of {sorted(EXPORT_FORMATS)}")
    # the index needs a plan, but does not use its tasks
    plan = BuildPlan(
        tuple(sources), Mixture((("caption", 1.0),)), check_images=options.check_images
    )
    problems = Records(quarantine)
    with (
        closing(writer),
        closing(problems),
        TemporaryDirectory(prefix=".deixis-export-", dir=quarantine.parent) as scratch,
    ):
        index = make_index(plan, Path(scratch) / "index")
        run = _Run(plan, index, writer, pictures, place, problems, losses)
        run.all(progress or (lambda done, total: None))  # noqa: ARG005
    run.report.not_carried = losses.counts
    run.report.root = pictures.root
    if run.report.share_at_problem > budget:
        raise BudgetError(_over(run.report, budget))
    return run.report


class _Run:
    """The state of one export."""

    def __init__(
        self,
        plan: BuildPlan,
        index: Index,
        writer: Writer,
        pictures: Pictures,
        place: str,
        problems: Records,
        losses: Losses,
    ) -> None:
        self.plan = plan
        self.index = index
        self.writer = writer
        self.pictures = pictures
        self.place = place
        self.problems = problems
        self.losses = losses
        self.report = ExportReport(images=sum(one.images for one in index.counts.values()))
        self.keeps_ids = len(plan.sources) == 1 and _all_numbers(index)

    def all(self, progress: Callable[[int, int], None]) -> None:
        if self.writer.needs_look:
            for source, key, parts in self._images():
                sample = self._read(source, key, parts).sample
                if sample is not None:
                    self.writer.look(sample)
        for name, problem in self.index.problems:
            self._problem(name, "", problem, "record")
            self.report.lost += 1
        for number, (source, key, parts) in enumerate(self._images(), start=1):
            self._image(number, source, key, parts)
            progress(number, self.report.images)
        self.writer.finish()

    def _images(self) -> Iterator[tuple[OpenedSource, str, list[Part]]]:
        for number in range(self.index.blocks):
            for source, key, parts in read_block(self.index.block(number)):
                yield self.plan.sources[source], key, parts

    def _image(self, number: int, source: OpenedSource, key: str, parts: list[Part]) -> None:
        name = source.source.name
        reading = self._read(source, key, parts)
        for problem in reading.problems:
            self._problem(name, key, problem, "record" if reading.sample else "image")
        sample = reading.sample
        if sample is None:
            self.report.quarantined += 1
            return
        before = self.losses.counts.copy()
        try:
            if isinstance(sample.image, Video):
                raise BadRecord("bad_record", "is of a video, which formats of images cannot hold")
            folder = self.place.format(split=split_name(sample))
            file_name = self.pictures.place(sample.image, name, key, folder)
            several = len(self.plan.sources) > 1
            item = Item(
                id=int(key) if self.keeps_ids else number,
                key=f"{name}/{key}" if several else key,
                file_name=f"{folder}/{file_name}" if self._named_from_the_top() else file_name,
                sample=sample,
            )
            self.writer.add(item)
        except (AnnotationError, GeometryError) as error:
            self.pictures.take_back()
            self.losses.counts = before
            self._problem(name, key, _as_problem(error, parts[0].place), "image")
            self.report.quarantined += 1
            return
        for kind, count in content(sample).items():
            if kind not in self.writer.carries:
                self.losses.add(kind, count)
        for note, count in reading.notes:
            self.report.normalised[note] += count
        self.report.written += 1
        self.report.partly += bool(reading.problems)

    def _named_from_the_top(self) -> bool:
        """Whether names are relative to the export's folder, not to its folder of pictures."""
        return self.place == "images" and self.pictures.mode != "reference"

    def _read(self, source: OpenedSource, key: str, parts: list[Part]) -> Reading:
        place = parts[0].place
        try:
            if not self.plan.check_images:
                return source.source.sample(key, parts)
            return read_framed(source, key, parts)
        except DeixisError as error:
            return Reading(None, (_as_problem(error, place),))
        except Exception as error:  # noqa: BLE001  # one image must not stop an export of a million
            detail = f"{type(error).__name__}: {error}"
            return Reading(None, (RecordProblem("code_error", detail, place),))

    def _problem(self, source: str, key: str, problem: RecordProblem, scope: str) -> None:
        self.report.reasons[problem.code] += 1
        self.report.records += scope == "record"
        texts = {
            "place": problem.place,
            "code": problem.code,
            "detail": problem.detail[:DETAIL_LIMIT],
        }
        line = {"source": source, "key": key, **texts, "scope": scope}
        self.problems.add(
            [{name: text.encode("utf-8", "replace").decode() for name, text in line.items()}]
        )


def _as_problem(error: DeixisError, place: str) -> RecordProblem:
    if isinstance(error, BadRecord):
        return RecordProblem(error.code, error.detail, place)
    return RecordProblem("bad_record", str(error), place)


def _all_numbers(index: Index) -> bool:
    """Return whether all image keys are numbers, which are then the ids."""
    return all(
        _NUMBER.fullmatch(key) is not None
        for number in range(index.blocks)
        for key in pq.read_table(index.block(number), columns=["key"]).column("key").to_pylist()
    )


def _over(report: ExportReport, budget: float) -> str:
    bad = report.quarantined + report.partly + report.lost
    reasons = ", ".join(f"{code} {count}" for code, count in report.reasons.most_common(5))
    return (
        f"{bad} of {report.images + report.lost} images have problems, "
        f"more than the budget of {budget:.3%}: {reasons}"
    )
