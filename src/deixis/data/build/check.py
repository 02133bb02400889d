"""Read sources without building anything, and say what is wrong with them and where."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from deixis.data.build.block import BlockContent, make_block
from deixis.data.build.index import make_index
from deixis.data.build.plan import BuildPlan
from deixis.data.mixture import Mixture
from deixis.data.sources.registry import OpenedSource

SHOWN = 20


@dataclass(slots=True)
class Findings:
    """What reading found: images, records, faults by reason, and the first faults of each reason."""

    images: int = 0
    records: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    sound: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    normalised: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, code: str, place: str, detail: str) -> None:
        """Count a fault, and keep it where it is among the first of its reason."""
        self.reasons[code] += 1
        kept = self.examples.setdefault(code, [])
        if len(kept) < SHOWN:
            kept.append(f"{place}: {detail}")


def check_sources(
    sources: Sequence[OpenedSource],
    *,
    check_images: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
    scratch: Path | None = None,
) -> Findings:
    """Read every record of some sources, and look at every image's header.

    Raises:
        AnnotationError: A file is damaged beyond its records.
    """
    # any task will do: what it makes is not kept
    plan = BuildPlan(
        tuple(sources),
        Mixture((("caption", 1.0),)),
        check_images=check_images,
        # pictures that the annotations hold themselves have no names that a row could give
        embed=any(getattr(one.source, "image_data", False) for one in sources),
    )
    findings = Findings()
    with TemporaryDirectory(prefix="deixis-check-", dir=scratch) as folder:
        index = make_index(plan, Path(folder) / "index")
        for _, fault in index.faults:
            findings.fault(fault.code, fault.place, fault.detail)
        findings.images = sum(count.images for count in index.counts.values())
        findings.records = sum(count.parts + count.faults for count in index.counts.values())
        for count in index.counts.values():
            findings.passed_over.update(count.passed_over)
        findings.records += findings.passed_over.total()
        for number in range(index.blocks):
            _add(findings, make_block(plan, index.block(number)))
            if progress is not None:
                progress("check", number + 1, index.blocks)
    return findings


def _add(findings: Findings, content: BlockContent) -> None:
    for row in content.quarantine:
        findings.fault(row.code, row.place, row.detail)
    findings.sound += sum(content.images.values()) - sum(content.at_fault.values())
    for (_, note), count in content.notes.items():
        findings.normalised[note] += count
