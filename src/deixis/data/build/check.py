"""Checks sources, or the pictures of a built data set, and lists problems with their places."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deixis.data.build.block import BlockContent, Look, make_block
from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.dataset import BuiltDataset
from deixis.data.build.index import make_index
from deixis.data.build.picture_reader import PictureReader, ReadPicture
from deixis.data.build.stored_images import stored_image
from deixis.data.mixture import Mixture
from deixis.data.sources.base import BadRecord
from deixis.data.sources.registry import OpenedSource
from deixis.geometry import ImageSize
from deixis.structures import Sample

SHOWN = 20


@dataclass(slots=True)
class Findings:
    """Counts of images, records and problems by reason, with the first problems of each reason."""

    images: int = 0
    records: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    sound: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    normalised: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def problem(self, code: str, place: str, detail: str) -> None:
        """Count a problem, and keep the first ones of each reason."""
        self.reasons[code] += 1
        kept = self.examples.setdefault(code, [])
        if len(kept) < SHOWN:
            kept.append(f"{place}: {detail}")


def check_sources(
    sources: Sequence[OpenedSource],
    *,
    check_images: bool = True,
    read: ReadPicture | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    scratch: Path | None = None,
) -> Findings:
    """Read every record and every image header of some sources.

    With ``read`` (`deixis.processing.images.read_image`), a separate process also decodes the
    pixels of every image, except videos and drawn images.

    Raises:
        AnnotationError: A file is damaged beyond its records.
    """
    # any task will do: its conversations are not kept
    plan = BuildPlan(
        tuple(sources),
        Mixture((("caption", 1.0),)),
        check_images=check_images,
        # images inside annotation files have no file name for a row
        embed=any(getattr(one.source, "image_data", False) for one in sources),
    )
    findings = Findings()
    with TemporaryDirectory(prefix="deixis-check-", dir=scratch) as folder:
        index = make_index(plan, Path(folder) / "index")
        for _, problem in index.problems:
            findings.problem(problem.code, problem.place, problem.detail)
        findings.images = sum(count.images for count in index.counts.values())
        findings.records = sum(count.parts + count.problems for count in index.counts.values())
        for count in index.counts.values():
            findings.passed_over.update(count.passed_over)
        findings.records += findings.passed_over.total()
        with _looking(read) as look:
            for number in range(index.blocks):
                _add(findings, make_block(plan, index.block(number), look=look))
                if progress is not None:
                    progress("check", number + 1, index.blocks)
    return findings


@contextmanager
def _looking(read: ReadPicture | None) -> Iterator[Look | None]:
    if read is None:
        yield None
        return
    with PictureReader(read) as reader:

        def look(sample: Sample) -> None:
            if isinstance(sample.image, Path):
                reader.look(sample.image)

        yield look


def check_pictures(folder: Path, read: ReadPicture) -> Findings:
    """Check that every image of a built data set exists, decodes and has the size of its rows.

    A separate process decodes each image once, except videos and drawn images.
    `deixis.data.build.verify` checks the data set itself.

    Args:
        folder: The folder of a built data set.
        read: Decodes an image, such as `deixis.processing.images.read_image`.

    Raises:
        AnnotationError: The folder holds no finished data set.
        CheckpointError: A shard is missing or damaged.
    """
    dataset = BuiltDataset(folder)
    findings = Findings()
    seen: set[bytes] = set()
    with PictureReader(read) as reader:
        for row in dataset.rows():
            findings.records += 1
            stored = row["image"]
            if stored is None:
                continue
            image = stored_image(stored, root=dataset.roots.get(row["source"]))
            picture = image if isinstance(image, Path) else stored["bytes"]
            if picture is None:
                continue
            name = f"{row['source']}/{stored['path']}"
            # embedded images with one name may differ
            key = picture if isinstance(picture, bytes) else str(picture).encode("utf-8", "replace")
            digest = hashlib.blake2b(key, digest_size=16).digest()
            if digest in seen:
                continue
            seen.add(digest)
            findings.images += 1
            try:
                _check_size(reader.look(picture), row)
            except BadRecord as error:
                findings.problem(error.code, name, error.detail)
            else:
                findings.sound += 1
    return findings


def _check_size(size: ImageSize, row: Mapping[str, Any]) -> None:
    built = ImageSize(row["height"], row["width"])
    if size != built:
        raise BadRecord("size_mismatch", f"built as {built}, it is {size}")


def _add(findings: Findings, content: BlockContent) -> None:
    for row in content.quarantine:
        findings.problem(row.code, row.place, row.detail)
    findings.sound += sum(content.images.values()) - sum(content.with_problems.values())
    for (_, note), count in content.notes.items():
        findings.normalised[note] += count
