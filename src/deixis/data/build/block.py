"""Makes the conversations of one block of images, without writing anything."""

import gc
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.conversation_rows import dump_turns
from deixis.data.build.dice import Dice
from deixis.data.build.framed import read_framed
from deixis.data.build.image_limits import IMAGE_SECONDS, ImageKey, Lost, TooSlowError, time_limit
from deixis.data.build.index import read_block
from deixis.data.build.stored_images import image_bytes, image_name
from deixis.data.build.stored_videos import video_bytes, video_name
from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.registry import OpenedSource
from deixis.data.tasks import TASKS, TaskSpec
from deixis.errors import DeixisError, RecipeError
from deixis.geometry import Box, Mask, Point
from deixis.structures import Description, Sample, Turn, Video

DETAIL_LIMIT = 200
Look = Callable[[Sample], None]
"""Decodes the pixels of a sample's image; raises `BadRecord` if they are damaged."""
_NONE_LOST: Lost = MappingProxyType({})
EMBED_LIMIT = 2**30
"""Most bytes of embedded videos in one shard; a shard is made in memory."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row of the quarantine table; ``scope`` is ``image`` if the whole image was left out."""

    source: str
    key: str
    place: str
    code: str
    detail: str
    payload_sha256: str
    scope: str


@dataclass(slots=True)
class BlockContent:
    """The conversations of a block, its quarantined records and its counts.

    ``images`` counts the images of each source by outcome (``used``, ``quarantined``, ``partly``,
    or the name of the rule that left them out). ``with_problems`` counts images with at least one
    quarantined record, ``tasks`` the conversations of each task, ``notes`` normalisations.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    quarantine: list[Quarantined] = field(default_factory=list)
    images: Counter[tuple[str, str]] = field(default_factory=Counter)
    with_problems: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)


def make_block(
    plan: BuildPlan,
    path: Path,
    *,
    lost: Lost = _NONE_LOST,
    watch: Callable[[ImageKey], None] | None = None,
    look: Look | None = None,
) -> BlockContent:
    """Read a block's images and make their conversations.

    The same block and plan give the same content on any machine.

    Args:
        plan: The plan of the build.
        path: The file of the block.
        lost: Images that crash or hang a process; they are quarantined without being read.
        watch: Called with the key of each image before the image is read.
        look: Decodes the pixels of each image. A `BadRecord` from it quarantines the image.
    """
    content = BlockContent()
    make_parts(plan, read_block(path), content, lost=lost, watch=watch, look=look)
    return content


def make_parts(
    plan: BuildPlan,
    images: Iterable[tuple[int, str, Sequence[Part]]],
    content: BlockContent,
    *,
    lost: Lost = _NONE_LOST,
    watch: Callable[[ImageKey], None] | None = None,
    look: Look | None = None,
) -> None:
    """Add the conversations of ``images`` (source number, key, sorted parts) to ``content``."""
    maker = _Maker(plan, content, look)
    # this code makes no reference cycles, and collecting them takes a tenth of the time
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number, key, parts in images:
            before = len(content.quarantine)
            if watch is not None:
                watch((number, key))
            maker.image(plan.sources[number], key, parts, lost.get((number, key)))
            content.with_problems[plan.sources[number].source.name] += (
                len(content.quarantine) > before
            )
    finally:
        if collecting:
            gc.enable()


class _Maker:
    def __init__(self, plan: BuildPlan, content: BlockContent, look: Look | None) -> None:
        self.plan = plan
        self.look = look
        self.content = content
        self.dice = Dice(plan.seed)
        self.embedded = 0
        self.tasks = [
            (entry, [TASKS[name] for name in entry.split("|")], rate)
            for entry, rate in plan.mixture.rates
        ]

    def image(
        self, source: OpenedSource, key: str, parts: Sequence[Part], lost: RecordProblem | None
    ) -> None:
        name = source.source.name
        reading = (
            self._read(source, key, parts)
            if lost is None
            else Reading(None, (replace(lost, place=parts[0].place),))
        )
        for problem in reading.problems:
            self._quarantine(name, key, parts, problem, whole=reading.sample is None)
        sample = reading.sample
        if sample is None:
            self.content.images[name, "quarantined"] += 1
            return
        for note, count in reading.notes:
            self.content.notes[name, note] += count
        try:
            if self.look is not None:
                self.look(sample)
            stored = self._image(source, sample)
        except BadRecord as error:
            problem = RecordProblem(error.code, error.detail, parts[0].place)
            self._quarantine(name, key, parts, problem, whole=True)
            self.content.images[name, "quarantined"] += 1
            return
        before = len(self.content.rows)
        try:
            for number, (task, turns) in enumerate(self._conversations(sample)):
                self._row(sample, stored, f"{sample.id}/{number}", task, turns)
        except Exception as error:  # noqa: BLE001  # one image must not stop a build of a hundred million
            del self.content.rows[before:]
            problem = RecordProblem(
                "code_error", f"{type(error).__name__}: {error}", parts[0].place
            )
            self._quarantine(name, key, parts, problem, whole=True)
            self.content.images[name, "quarantined"] += 1
            return
        for row in self.content.rows[before:]:
            self.content.tasks[row["task"]] += 1
        used = len(self.content.rows) > before
        fate = "no_task_applies" if not used else "partly" if reading.problems else "used"
        self.content.images[name, fate] += 1

    def _read(self, source: OpenedSource, key: str, parts: Sequence[Part]) -> Reading:
        """Read an image's parts and check its file; a timeout becomes a problem of the image."""
        place = parts[0].place
        try:
            with time_limit(IMAGE_SECONDS):
                return self._checked(source, key, parts)
        except TooSlowError:
            detail = f"not read in {IMAGE_SECONDS:g} s"
            return Reading(None, (RecordProblem("decode_timeout", detail, place),))

    def _checked(self, source: OpenedSource, key: str, parts: Sequence[Part]) -> Reading:
        place = parts[0].place
        try:
            if not self.plan.check_images:
                return source.source.sample(key, parts)
            reading = read_framed(source, key, parts)
        except BadRecord as error:
            return Reading(None, (RecordProblem(error.code, error.detail, place),))
        except RecipeError:
            # a missing extra is a problem of the installation, not of a record
            raise
        except DeixisError as error:
            return Reading(None, (RecordProblem("bad_record", str(error), place),))
        except Exception as error:  # noqa: BLE001  # code errors have a separate budget
            detail = f"{type(error).__name__}: {error}"
            return Reading(None, (RecordProblem("code_error", detail, place),))
        return reading

    def _image(self, source: OpenedSource, sample: Sample) -> dict[str, Any]:
        """Return the columns of a row that hold or name its image or video."""
        image = sample.image
        if isinstance(image, Video) != source.videos:
            raise BadRecord("bad_record", "expected a video of a source of videos, and only of one")
        if not isinstance(image, Video):
            if not self.plan.embed:
                return {"image": {"bytes": None, "path": image_name(image, source.root)}}
            name = image.name if isinstance(image, Path) else None
            return {"image": {"bytes": image_bytes(image), "path": name}}
        if self.plan.embed:
            data = video_bytes(image)
            self.embedded += len(data)
            if self.embedded > EMBED_LIMIT:
                raise RecipeError(
                    f"embedding {source.source.name}: the videos of one shard have more than "
                    f"{EMBED_LIMIT} bytes\nhint: fewer --shard-images, or no --embed"
                )
            name = image.content.name if isinstance(image.content, Path) else None
            stored = {"bytes": data, "path": name}
        else:
            stored = {"bytes": None, "path": video_name(image, source.root)}
        return {
            "image": None,
            "video": stored,
            "frames": image.num_frames,
            "seconds": image.seconds,
        }

    def _conversations(self, sample: Sample) -> Iterator[tuple[str, tuple[Turn, ...]]]:
        """Yield conversations with the name of their task, or ``several`` if tasks share one."""
        waiting: list[Turn] = []
        asked: set[Any] = set()
        for entry, tasks, rate in self.tasks:
            for number in range(self._times(sample, entry, rate)):
                task, turns = self._one(sample, entry, tasks, number)
                if not turns:
                    continue
                if number:
                    key = (task.name, tuple(map(str, turns[0].question)))
                    if key in asked:
                        continue
                    asked.add(key)
                elif rate > 1:
                    asked.add((task.name, tuple(map(str, turns[0].question))))
                if self.plan.turns == 1 or task.dependent:
                    yield task.name, turns
                else:
                    waiting += turns
        size = self.plan.turns
        for start in range(0, len(waiting), size):
            turns = tuple(waiting[start : start + size])
            names = {turn.task for turn in turns}
            yield names.pop() if len(names) == 1 else "several", turns

    def _one(
        self, sample: Sample, entry: str, tasks: Sequence[TaskSpec], number: int
    ) -> tuple[TaskSpec, tuple[Turn, ...]]:
        """Return the turns of the first task that applies; several tasks come in random order."""
        if len(tasks) > 1:
            order = self.dice.throw(sample.id, f"{entry}?", number + 1).permutation(len(tasks))
            tasks = [tasks[place] for place in order]
        for task in tasks:
            rng = self.dice.throw(sample.id, task.name, number)
            turns = task.make(sample, rng, self.plan.rules)
            if turns:
                return task, turns
        return tasks[0], ()

    def _times(self, sample: Sample, task: str, rate: float) -> int:
        whole = int(rate)
        rest = rate - whole
        if not rest:
            return whole
        return whole + (self.dice.throw(sample.id, f"{task}?", 0).random() < rest)

    def _row(
        self,
        sample: Sample,
        stored: dict[str, Any],
        id_: str,
        task: str,
        turns: tuple[Turn, ...],
    ) -> None:
        tasks: set[str] = set()
        units: set[str] = set()
        prompts: set[str] = set()
        words = 0
        for turn in turns:
            tasks.add(turn.task)
            for part in turn.question:
                prompts.add(_prompt_kind(part))
            if turn.answer is not None:
                words += turn.answer.text.count(" ") + 1
                for phrase in turn.answer.phrases:
                    for group in phrase.groups:
                        units.update(group.unit_types)
        self.content.rows.append(
            {
                "id": id_,
                "source": sample.source,
                "split": sample.split,
                "task": task,
                "tasks": sorted(tasks),
                "units": sorted(units),
                "prompts": sorted(prompts),
                **stored,
                "height": sample.size.height,
                "width": sample.size.width,
                "words": words,
                "independent": task == "several"
                or (len(turns) > 1 and len(tasks) == 1 and not (TASKS[turns[0].task].dependent)),
                "turns": dump_turns(turns),
            }
        )

    def _quarantine(
        self, source: str, key: str, parts: Sequence[Part], problem: RecordProblem, *, whole: bool
    ) -> None:
        payloads = [part.payload for part in parts if part.place == problem.place] or [
            part.payload for part in parts
        ]
        digest = hashlib.sha256("\n".join(payloads).encode("utf-8", "surrogatepass")).hexdigest()
        self.content.quarantine.append(
            Quarantined(
                source,
                key,
                problem.place or parts[0].place,
                problem.code,
                _short(problem.detail),
                digest,
                "image" if whole else "record",
            )
        )


def _prompt_kind(part: object) -> str:
    match part:
        case Description():
            return "description"
        case str():
            return "text"
        case Box():
            return "box"
        case Mask():
            return "mask"
        case Point():
            return "point"
        case _:
            return "scribble"


def _short(text: str) -> str:
    kept = text.encode("utf-8", "replace").decode()
    return kept if len(kept) <= DETAIL_LIMIT else kept[: DETAIL_LIMIT - 1] + "…"
