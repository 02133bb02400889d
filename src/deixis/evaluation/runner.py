"""Ask a predictor every question of a benchmark and score the answers."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from deixis import __version__
from deixis.errors import BenchmarkError
from deixis.evaluation.benchmark import Benchmark, resolve_benchmark
from deixis.evaluation.examples import Example
from deixis.evaluation.fusion_comparison import FusionTally, check_fusible, read_strategies
from deixis.evaluation.predictions import (
    FileProblems,
    Prediction,
    Row,
    make_row,
    parse_row,
    read_lines,
    to_prediction,
)
from deixis.evaluation.predictor_interface import (
    AnyPredictor,
    BatchPredictor,
    FusingPredictor,
    PredictorRecord,
    record_predictor,
)
from deixis.evaluation.protocol import build_protocol
from deixis.evaluation.report import Report, Result
from deixis.evaluation.storage import Journal, claim_folder
from deixis.inference.pointing_answer import FusionStrategy
from deixis.storage import locked_folder
from deixis.structures import Answer

Progress = Callable[[str, int, int], None]
"""Called with a benchmark's name, how many of its examples are done, and how many it has."""

_SPARE_ROWS = 1000
_ROWS_PER_EXAMPLE = 10


def evaluate(
    predictor: AnyPredictor,
    benchmark_names: Sequence[str],
    *,
    limit: int | None = None,
    level: str | None = None,
    batch_size: int = 16,
    progress: Progress | None = None,
    out: Path | None = None,
    record: PredictorRecord | None = None,
    seed: int = 0,
    fuse: Sequence[str] = (),
) -> Report:
    """Ask every question of the benchmarks and score the answers.

    Args:
        predictor: Answers batches of questions, or samples.
        benchmark_names: Names as in `resolve_benchmark`; one without a level means all levels.
        limit: Most examples of each benchmark; the first ones are taken.
        level: The only level to ask, for names without a level.
        batch_size: Questions asked at once.
        progress: Called after each batch.
        out: A folder for ``predictions.jsonl`` and ``report.json``. A run that was stopped
            continues, and a finished one is scored again without asking.
        record: Description of the predictor; by default from `record_predictor`.
        seed: Seed of the intervals.
        fuse: Strategies to fuse boxes by (see `deixis.inference.fusion.fuse_boxes`). Each result
            then compares them with the sources of boxes, on the same answers; the scores are
            those of answers without fusion.

    Raises:
        BenchmarkError: A name is unknown, a number is out of range, the predictor gives a wrong
            number of answers or answers in another frame, ``out`` has another run, or ``fuse`` is
            given and a benchmark has no single box or the predictor does not record sources.
        PromptError: A strategy is unknown.
        StorageError: ``out`` cannot be written.
        LockedError: Another process is writing to ``out``.
    """
    benchmarks = _resolve(benchmark_names, level=level, limit=limit)
    if batch_size < 1:
        raise BenchmarkError(f"batch size {batch_size}: expected at least 1")
    who = record_predictor(predictor) if record is None else record
    fusion = _Fusion.of(fuse, benchmarks, predictor)
    results: list[Result] = []
    with ExitStack() as stack:
        journal = None
        if out is not None:
            stack.enter_context(locked_folder(out, "evaluating into it"))
            run = _describe_run(benchmarks, who, limit=limit, batch_size=batch_size)
            claim_folder(out, run if fusion is None else {**run, "fusion": fusion.describe()})
            journal = Journal(out)
        for benchmark in benchmarks:
            total = benchmark.num_examples(limit=limit)
            tally = _Tally(benchmark, total=total, progress=progress, fusion=fusion)
            for examples in _batches(benchmark.examples(limit=limit), batch_size):
                rows = _ask(predictor, benchmark, examples, journal, fused=fusion is not None)
                for example, row in zip(examples, rows, strict=True):
                    prediction = _read_own(row, example, benchmark, fused=fusion is not None)
                    tally.add(example, prediction)
                tally.report_progress()
            results.append(tally.result(who, seed=seed))
        report = Report(tuple(results))
        if journal is not None and out is not None:
            journal.finish()
            report.to_json(out / "report.json")
    return report


def score(
    benchmark_name: str,
    predictions: Path,
    *,
    limit: int | None = None,
    level: str | None = None,
    allow_missing: bool = False,
    seed: int = 0,
) -> Report:
    """Score a file of predictions with one JSON object a line, from any program.

    Each line has an ``id`` and either ``references`` (null for an answer that could not be read,
    ``[]`` for "nothing there", else objects of ``box`` in pixels, ``mask`` as COCO RLE and
    ``score``) or ``text``. Lines may be in any order and may name their ``benchmark``; lines of
    other benchmarks are ignored.

    Args:
        benchmark_name: A name as in `resolve_benchmark`.
        predictions: The file.
        limit: The limit under which the predictions were made.
        level: The only level to score.
        allow_missing: Count missing predictions as wrong instead of refusing the file; the
            ``coverage`` of the result is then below 1.
        seed: Seed of the intervals.

    Raises:
        BenchmarkError: The file is unreadable or has a problem; every kind of problem is counted.
    """
    benchmarks = _resolve([benchmark_name], level=level, limit=limit)
    total = sum(benchmark.num_examples(limit=limit) for benchmark in benchmarks)
    problems = FileProblems()
    rows = _Rows(predictions, {benchmark.name for benchmark in benchmarks}, problems, total=total)
    who = PredictorRecord(predictions.name, decoding="unknown: predictions were read from a file")
    tallies: list[_Tally] = []
    for benchmark in benchmarks:
        tally = _Tally(benchmark, total=benchmark.num_examples(limit=limit))
        for example in benchmark.examples(limit=limit):
            prediction = rows.take(benchmark, example)
            if prediction is None and not allow_missing:
                problems.add("missing ids", repr(example.id))
            tally.add(example, prediction)
        tallies.append(tally)
    rows.check_frame()
    rows.check_extra()
    if problems:
        raise BenchmarkError(f"{predictions}: not scored: {problems}")
    return Report(tuple(tally.result(who, seed=seed) for tally in tallies))


def _resolve(
    names: Sequence[str], *, level: str | None, limit: int | None
) -> tuple[Benchmark, ...]:
    if not names:
        raise BenchmarkError("no benchmark: expected at least one name")
    if limit is not None and limit < 1:
        raise BenchmarkError(f"limit {limit}: expected at least 1")
    found = [each for name in names for each in resolve_benchmark(name, level=level)]
    return tuple(dict.fromkeys(found))


def _describe_run(
    benchmarks: Sequence[Benchmark],
    predictor: PredictorRecord,
    *,
    limit: int | None,
    batch_size: int,
) -> Row:
    return {
        "benchmarks": [benchmark.name for benchmark in benchmarks],
        "limit": limit,
        "batch_size": batch_size,
        "predictor": asdict(predictor),
        "deixis_version": __version__,
    }


def _batches(examples: Iterator[Example], size: int) -> Iterator[list[Example]]:
    while batch := list(islice(examples, size)):
        yield batch


def _ask(
    predictor: AnyPredictor,
    benchmark: Benchmark,
    examples: Sequence[Example],
    journal: Journal | None,
    *,
    fused: bool,
) -> list[Row]:
    if journal is not None:
        known = journal.take(benchmark.name, [example.id for example in examples])
        if known is not None:
            return known
    answers = _answers(predictor, examples, fused=fused)
    if len(answers) != len(examples):
        raise BenchmarkError(
            f"{benchmark.name}: the predictor gave {len(answers)} answers to {len(examples)} questions"
        )
    rows = [
        make_row(benchmark.name, example, answer, with_sources=fused)
        for example, answer in zip(examples, answers, strict=True)
    ]
    if journal is not None:
        journal.append(rows)
    return rows


def _answers(
    predictor: AnyPredictor, examples: Sequence[Example], *, fused: bool
) -> Sequence[Answer]:
    if fused and isinstance(predictor, FusingPredictor):
        # the decoder's own box is the answer without fusion; all sources are recorded with it
        questions = [(example.image, example.question) for example in examples]
        return predictor.ask_many(questions, fuse="decoder")
    if isinstance(predictor, BatchPredictor):
        return predictor.ask_many([(example.image, example.question) for example in examples])
    return [predictor.answer_sample(example.sample, example.question) for example in examples]


def _read_own(row: Row, example: Example, benchmark: Benchmark, *, fused: bool) -> Prediction:
    # Answers are scored from their rows, as a file is, so that both give the same number.
    needed = benchmark.task.needs_references
    try:
        return to_prediction(row, example, needs_references=needed, needs_sources=fused)
    except BenchmarkError as error:
        raise BenchmarkError(f"{benchmark.name}: prediction of {example.id} {error}") from error


@dataclass(frozen=True, slots=True)
class _Fusion:
    """The strategies to compare beside the scores, and the detector of the third box."""

    strategies: tuple[FusionStrategy, ...]
    threshold: float
    detector: PredictorRecord | None

    @classmethod
    def of(
        cls, names: Sequence[str], benchmarks: Sequence[Benchmark], predictor: AnyPredictor
    ) -> "_Fusion | None":
        if not names:
            return None
        strategies = read_strategies(names)
        check_fusible(benchmarks)
        if not isinstance(predictor, FusingPredictor):
            who = record_predictor(predictor).name
            raise BenchmarkError(
                f"{who} does not record the sources of its boxes: cannot fuse them"
            )
        detector = predictor.detector
        return cls(strategies, 0.5, None if detector is None else record_predictor(detector))

    def describe(self) -> Row:
        return {"detector": None if self.detector is None else asdict(self.detector)}

    def tally(self) -> FusionTally:
        return FusionTally(self.strategies, threshold=self.threshold, detector=self.detector)


class _Tally:
    """The scores of one benchmark, updated prediction by prediction."""

    def __init__(
        self,
        benchmark: Benchmark,
        *,
        total: int,
        progress: Progress | None = None,
        fusion: _Fusion | None = None,
    ) -> None:
        self._benchmark = benchmark
        self._total = total
        self._progress = progress
        self._scorer = benchmark.task.scorer()
        self._digest = hashlib.sha256()
        self._num_examples = 0
        self._num_missing = 0
        self._num_with_problems = 0
        self._num_cut = 0
        self._fusion = None if fusion is None else fusion.tally()

    def add(self, example: Example, prediction: Prediction | None) -> None:
        """Score one prediction; a missing one counts as an unparsed answer."""
        if prediction is None:
            self._num_missing += 1
            prediction = Prediction("", None)
        self._scorer.update(example, prediction)
        if self._fusion is not None:
            self._fusion.add(example, prediction)
        self._digest.update(example.fingerprint().encode())
        self._num_examples += 1
        self._num_with_problems += bool(prediction.problems)
        self._num_cut += prediction.finish_reason == "length"

    def report_progress(self) -> None:
        if self._progress is not None:
            self._progress(self._benchmark.name, self._num_examples, self._total)

    def result(self, predictor: PredictorRecord, *, seed: int) -> Result:
        scores = self._scorer.compute(seed=seed)
        return Result(
            benchmark=self._benchmark.name,
            scores=scores,
            calibration=self._scorer.calibration(),
            coverage=1.0 - self._num_missing / self._num_examples,
            num_with_problems=self._num_with_problems,
            num_cut=self._num_cut,
            protocol=build_protocol(
                self._benchmark,
                scores,
                predictor,
                num_examples=self._num_examples,
                examples_sha256=self._digest.hexdigest(),
                interval_seed=seed,
            ),
            fusion=None if self._fusion is None else self._fusion.compute(seed=seed),
        )


class _Rows:
    """The rows of a predictions file, looked up by example."""

    def __init__(
        self, path: Path, benchmarks: set[str], problems: FileProblems, *, total: int
    ) -> None:
        self._problems = problems
        self._rows: dict[tuple[str, str], tuple[int, Row]] = {}
        self._num_boxes = 0
        self._num_small_boxes = 0
        for number, line in read_lines(path):
            if number > _ROWS_PER_EXAMPLE * total + _SPARE_ROWS:
                raise BenchmarkError(f"{path}: more than {number - 1} lines for {total} examples")
            try:
                row = parse_row(line)
                self._keep(row, number, benchmarks)
            except BenchmarkError as error:
                problems.add("invalid lines", f"line {number}: {error}")

    def _keep(self, row: Row, number: int, benchmarks: set[str]) -> None:
        name = row.get("benchmark", "")
        if name and name not in benchmarks:
            resolve_benchmark(name)
            return
        key = (name, row["id"])
        if key in self._rows:
            same = "identical" if self._rows[key][1] == row else "conflicting"
            self._problems.add(f"duplicate ids, {same}", f"line {number}: {row['id'][:80]!r}")
        else:
            self._rows[key] = (number, row)

    def take(self, benchmark: Benchmark, example: Example) -> Prediction | None:
        """Return the prediction for an example; None where the file has none.

        An invalid one is counted as a problem of the file.
        """
        found = [
            self._rows.pop(key)
            for key in ((benchmark.name, example.id), ("", example.id))
            if key in self._rows
        ]
        if not found:
            return None
        if len(found) > 1:
            self._problems.add("duplicate ids, conflicting", f"line {found[1][0]}: {example.id!r}")
        number, row = found[0]
        try:
            prediction = to_prediction(
                row, example, needs_references=benchmark.task.needs_references
            )
        except BenchmarkError as error:
            self._problems.add("invalid predictions", f"line {number}: {example.id!r} {error}")
            return Prediction("", None)
        for one in prediction.references or ():
            if one.box is not None:
                self._num_boxes += 1
                self._num_small_boxes += max(one.box.x2, one.box.y2) <= 1.0
        return prediction

    def check_frame(self) -> None:
        """Add a problem if all boxes lie in the first pixel: they are normalised then."""
        if self._num_boxes and self._num_boxes == self._num_small_boxes:
            self._problems.add(
                "boxes that look normalised to [0, 1]", "expected pixels of the source image"
            )

    def check_extra(self) -> None:
        """Add a problem for each row that belongs to no example."""
        for (_, name), (number, _) in self._rows.items():
            self._problems.add("extra ids", f"line {number}: {name[:80]!r}")
