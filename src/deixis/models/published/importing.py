"""Published weights to parts of a deixis model, with a report of every key."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from deixis.errors import CheckpointError, ModelError
from deixis.models.published.pink import PINK
from deixis.models.published.reading import (
    WeightFile,
    added_tokens,
    config_field,
    indexed_keys,
    published_config,
    readable_files,
    shapes_of,
    weight_files,
)
from deixis.models.published.refvlm import REFVLM
from deixis.models.published.rows import Row, Table
from deixis.models.published.ullava import ULLAVA
from deixis.storage import storing

SYSTEMS: Mapping[str, Table] = {table.system: table for table in (PINK, REFVLM, ULLAVA)}
"""Systems whose weights can be read."""

REPORT = "report.json"
Activation = Literal["identity", "silu"]
"""What may stand between the two maps of Pink's adapters."""
SHARD_BYTES = 2**32
"""A part larger than this is written to several files."""


def read_activation(name: str | None) -> Activation | None:
    """An activation by its name; None where none is given.

    Raises:
        ModelError: There is no such activation.
    """
    match name:
        case None | "identity" | "silu":
            return name
        case _:
            raise ModelError(f"activation {name!r}: expected one of {list(get_args(Activation))}")


@dataclass(frozen=True, slots=True)
class Mapped:
    """A tensor that has a place."""

    key: str
    part: str
    name: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class ImportReport:
    """What became of every key.

    Attributes:
        system: Whose weights they are.
        mapped: Tensors that were placed.
        unmapped: Keys that no row of the table knows.
        missing: Keys that their group should have, and has not; or a set of groups of which none
            is there.
        mismatched: Keys whose shape differs from what other tensors say, with both.
        left_out: Keys that the table leaves out, and things in files that are no tensors.
        passed_over: Files that are no weights.
        groups: Groups of the table that are there.
        sizes: What the words of the table's shapes came to.
        unlike_released: Sizes that differ from the released weights', with both.
        files: Files written, by part.
        settings: What a model has to be told that no tensor says: the ``offset`` of hidden states,
            what stands between the maps of ``language_adapters`` and ``vision_adapters``.
        tokens: Tokens that were added to the published vocabulary, with the numbers of their rows.
    """

    system: str
    mapped: list[Mapped] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    unlike_released: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every key has a place and every place its key."""
        return not (self.unmapped or self.missing or self.mismatched)

    @property
    def parts(self) -> dict[str, int]:
        """How many tensors each part has."""
        return dict(sorted(Counter(each.part for each in self.mapped).items()))

    def problems(self) -> str:
        """Say how many keys of each kind have no place, and name some."""
        told = {
            "unmapped": self.unmapped,
            "missing": self.missing,
            "of another shape": [f"{key} ({why})" for key, why in self.mismatched.items()],
        }
        return "; ".join(
            f"{len(keys)} {kind}: {', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}"
            for kind, keys in told.items()
            if keys
        )

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON can hold it."""
        return {**asdict(self), "parts": self.parts, "complete": self.complete}


def import_weights(
    system: str,
    source: Path,
    folder: Path,
    *,
    partial: bool = False,
    activation: Activation | None = None,
) -> ImportReport:
    """Write published weights as one safetensors file for each part, and a report.

    Names inside a file are those of the part's own state; `deixis.models.published` lists parts.
    Pickled files are read by another process that knows nothing but tensors. Numbers keep their
    type.

    Args:
        system: ``pink``, ``refvlm`` or ``ullava``.
        source: A folder with the published files; those of several downloads may lie together.
        folder: An empty folder for the parts and ``report.json``.
        partial: Write what has a place even where keys are unmapped, missing or of another shape.
        activation: What stands between the two maps of Pink's language adapters. No tensor tells;
            ``config.json`` beside the weights does where it is there. Those of the vision encoder
            have nothing between them in the public code.

    Raises:
        ModelError: There is no such system, or an activation is given for one without adapters.
        CheckpointError: A file is refused or damaged, two files hold the same key, nothing says
            what the activation is, or, unless ``partial``, a key has no place or a place no key.
        StorageError: The folder cannot be written.
    """
    if system not in SYSTEMS:
        raise ModelError(f"weights of {system!r}: expected one of {sorted(SYSTEMS)}")
    table = SYSTEMS[system]
    if activation is not None and not table.non_linear:
        raise ModelError(f"weights of {system} have no adapters: expected no activation")
    found, passed_over = weight_files(source)
    with storing(folder, SafetensorError):
        with tempfile.TemporaryDirectory(prefix=".import.", dir=folder) as scratch:
            files = readable_files(found, Path(scratch))
            homes: dict[str, WeightFile] = {}
            shapes: dict[str, tuple[int, ...]] = {}
            left_out: dict[str, str] = {}
            for file in files:
                left_out |= {f"{file.path.name}: {name}": "no tensor" for name in file.beside}
                for key, shape in shapes_of(file).items():
                    if key in homes and not _replaces(file, homes[key]):
                        raise CheckpointError(
                            f"{key!r} is in {homes[key].path.name} and in {file.path.name}"
                        )
                    homes[key], shapes[key] = file, shape
            report = match_keys(table, shapes)
            report.passed_over = passed_over
            report.left_out |= left_out
            lost = {k: name for k, name in indexed_keys(source).items() if k not in shapes}
            report.missing = [key for key in report.missing if key not in lost]
            report.missing += [f"{key} (of {name})" for key, name in lost.items()]
            if not report.complete and not partial:
                raise CheckpointError(
                    f"{source}: not the weights of {system}: {report.problems()}\n"
                    f"hint: {_way_out(report, shapes)}"
                )
            config = published_config(source)
            report.settings = _settings(table, report, config, activation)
            report.tokens = added_tokens(source) or _tokens_of(table, config)
            report.files = _write_parts(report, homes, folder)
        (folder / REPORT).write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    return report


def match_keys(table: Table, shapes: Mapping[str, tuple[int, ...]]) -> ImportReport:
    """Find the place of every key, by name and shape; nothing is read but these.

    A group is there where any key of it is; then all of it has to be, for every number from 0 to
    the largest one that the same stack has.
    """
    report = ImportReport(table.system)
    left_out = {_pattern(key): why for key, why in table.left_out.items()}
    remaining = dict(shapes)
    for key in shapes:
        why = next((why for pattern, why in left_out.items() if pattern.fullmatch(key)), None)
        if why is not None:
            report.left_out[key] = why
            del remaining[key]
    for group, rows in table.groups.items():
        matches = [(row, key, number) for row in rows for key, number in _keys(row, remaining)]
        if not matches:
            continue
        report.groups.append(group)
        counts: dict[str, int] = {}
        for row, _, number in matches:
            if number is not None:
                stack = row.key.split("*")[0]
                counts[stack] = max(counts.get(stack, 0), number + 1)
        for row in rows:
            stack = row.key.split("*")[0]
            numbers = range(counts.get(stack, 0)) if "*" in row.key else [None]
            report.missing += [
                key
                for key in (_numbered(row.key, number) for number in numbers)
                if key not in remaining and not row.optional
            ]
        for row, key, number in matches:
            wrong = _measure(row, number, remaining[key], report.sizes)
            if wrong is None:
                name = _numbered(row.name, number)
                report.mapped.append(Mapped(key, row.part, name, remaining[key]))
            else:
                report.mismatched[key] = wrong
    for groups in table.required:
        if not set(groups) & set(report.groups):
            report.missing.append(" or ".join(groups))
    placed = {each.key for each in report.mapped} | report.mismatched.keys()
    report.unmapped = sorted(remaining.keys() - placed)
    report.unlike_released = {
        word: f"{report.sizes[word]} instead of {size}"
        for word, size in table.sizes.items()
        if word in report.sizes and report.sizes[word] != size
    }
    return report


def _way_out(report: ImportReport, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What helps where keys do not fit: another system, or to do with what is there."""
    placed = {name: len(match_keys(table, shapes).mapped) for name, table in SYSTEMS.items()}
    best = max(placed, key=lambda name: placed[name])
    if placed[best] > len(report.mapped):
        return f"{placed[best]} of its {len(shapes)} keys are those of {best}"
    return "--partial writes what has a place"


def _settings(
    table: Table, report: ImportReport, config: Mapping[str, Any], activation: Activation | None
) -> dict[str, str]:
    """What a model has to be told that is in no tensor."""
    settings = dict(table.settings)
    if not any(part.endswith("_adapters") for part in report.parts):
        return settings
    said = config_field(config, table.non_linear)
    if said is not None and not isinstance(said, bool):
        raise CheckpointError(f"config.json: {table.non_linear}: expected true or false")
    found = None if said is None else "silu" if said else "identity"
    if found is None and activation is None:
        raise CheckpointError(
            f"adapters of {table.system}: whether SiLU stands between their maps is in no tensor, "
            f"and no config.json beside them has {table.non_linear}\n"
            "hint: --activation identity (the public code's default) or --activation silu"
        )
    if found is not None and activation not in {None, found}:
        raise CheckpointError(
            f"adapters of {table.system}: config.json says {found}, got --activation {activation}"
        )
    biased = any(each.name.endswith("adapter.down.bias") for each in report.mapped)
    language = found or activation or "identity"
    # the public code, whose adapters have biases, never gives the vision encoder's an activation
    return {
        **settings,
        "language_adapters": language,
        "vision_adapters": "identity" if biased else language,
    }


def _tokens_of(table: Table, config: Mapping[str, Any]) -> dict[str, int]:
    """The tokens whose numbers ``config.json`` holds."""
    numbers = [(token, config_field(config, name)) for name, token in table.tokens.items()]
    return {token: number for token, number in numbers if isinstance(number, int)}


def _replaces(later: WeightFile, earlier: WeightFile) -> bool:
    """Whether a file holds newer weights than shards: those that training saved alone."""
    return later.path.name.startswith("saved_parameters") and not earlier.path.name.startswith(
        "saved_parameters"
    )


def _pattern(key: str) -> re.Pattern[str]:
    return re.compile(re.escape(key).replace(r"\*", r"(0|[1-9]\d{0,3})"))


def _keys(row: Row, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, int | None]]:
    if "*" not in row.key:
        return [(row.key, None)] if row.key in shapes else []
    pattern = _pattern(row.key)
    found = ((key, pattern.fullmatch(key)) for key in shapes)
    return sorted((key, int(match[1])) for key, match in found if match)


def _numbered(text: str, number: int | None) -> str:
    return text if number is None else text.replace("*", str(number))


def _measure(
    row: Row, number: int | None, shape: tuple[int, ...], sizes: dict[str, int]
) -> str | None:
    """Why a shape does not fit its row; sizes that are new are kept if it does."""
    words = [_numbered(word, number) for word in row.shape.split()]
    if len(words) != len(shape):
        return f"expected {len(words)} axes, got {list(shape)}"
    known = dict(sizes)
    for word, size in zip(words, shape, strict=True):
        expected = int(word) if word.isdigit() else known.setdefault(word, size)
        if size != expected:
            wanted = [int(each) if each.isdigit() else known.get(each, each) for each in words]
            return f"expected {wanted}, got {list(shape)}"
    sizes |= known
    return None


def _write_parts(
    report: ImportReport, homes: Mapping[str, WeightFile], folder: Path
) -> dict[str, list[str]]:
    written: dict[str, list[str]] = {}
    for part in report.parts:
        shards: list[list[Mapped]] = [[]]
        filled = 0
        for each in (one for one in report.mapped if one.part == part):
            # at most four bytes a number
            size = 4 * torch.Size(each.shape).numel()
            if shards[-1] and filled + size > SHARD_BYTES:
                shards.append([])
                filled = 0
            shards[-1].append(each)
            filled += size
        names = [
            f"{part}.safetensors"
            if len(shards) == 1
            else f"{part}-{n + 1:05}-of-{len(shards):05}.safetensors"
            for n in range(len(shards))
        ]
        for name, shard in zip(names, shards, strict=True):
            save_file(_tensors(shard, homes), folder / name)
        written[part] = names
    return written


def _tensors(shard: list[Mapped], homes: Mapping[str, WeightFile]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    files = dict.fromkeys(homes[each.key].readable for each in shard)
    for path in files:
        with safe_open(path, framework="pt") as opened:
            tensors |= {
                each.name: opened.get_tensor(each.key)
                for each in shard
                if homes[each.key].readable == path
            }
    wrong = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if wrong:
        raise CheckpointError(f"numbers that are not finite in {wrong[:3]}")
    return tensors
