"""Convert published weights to parts of a deixis model, with a report of every key."""

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
"""Tables of the supported systems."""

REPORT = "report.json"
Activation = Literal["identity", "silu"]
"""The activation between the two maps of Pink's adapters."""
SHARD_BYTES = 2**32
"""Bytes of a part above which it is written to several files."""


def read_activation(name: str | None) -> Activation | None:
    """Return an activation by name, or None without a name.

    Raises:
        ModelError: The activation is unknown.
    """
    match name:
        case None | "identity" | "silu":
            return name
        case _:
            raise ModelError(f"activation {name!r}: expected one of {list(get_args(Activation))}")


@dataclass(frozen=True, slots=True)
class Mapped:
    """A published tensor and its place in a deixis part."""

    key: str
    part: str
    name: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class ImportReport:
    """The outcome of an import for every key.

    Attributes:
        system: The system of the weights.
        mapped: Tensors that were converted.
        unmapped: Keys that the table does not have.
        missing: Keys that their group lacks, or sets of alternative groups that are all missing.
        mismatched: Keys whose shape contradicts other tensors, with both shapes.
        left_out: Keys that the table leaves out, and values in files that are not tensors.
        passed_over: Files without weights.
        groups: Groups of the table that were found.
        sizes: Sizes by the words of the table's shapes.
        unlike_released: Sizes that differ from those of the released weights, with both.
        files: Files written, by part.
        settings: Settings of the model that tensors do not determine: the ``offset`` of latent
            references, and the activation of ``language_adapters`` and ``vision_adapters``.
        tokens: Tokens that were added to the published vocabulary, with their row indices.
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
        """Whether all keys were converted and none is missing."""
        return not (self.unmapped or self.missing or self.mismatched)

    @property
    def parts(self) -> dict[str, int]:
        """Number of tensors of each part."""
        return dict(sorted(Counter(each.part for each in self.mapped).items()))

    def problems(self) -> str:
        """Return the number of keys with problems of each kind, with examples."""
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
        """Return the report as data for JSON."""
        return {**asdict(self), "parts": self.parts, "complete": self.complete}


def import_weights(
    system: str,
    source: Path,
    folder: Path,
    *,
    partial: bool = False,
    activation: Activation | None = None,
) -> ImportReport:
    """Convert published weights to one safetensors file for each part, and write a report.

    Names in a file are those of the part's own state; `deixis.models.published` lists the parts.
    Pickled files are read by a separate process that accepts tensors only. Dtypes are kept.

    Args:
        system: ``pink``, ``refvlm`` or ``ullava``.
        source: A folder with the published files; files of several downloads may be combined.
        folder: An empty folder for the parts and ``report.json``.
        partial: Write converted tensors even if keys are unmapped, missing or of another shape.
        activation: The activation of Pink's language adapters, which tensors do not determine; by
            default that in ``config.json``. In the public code, vision adapters have none.

    Raises:
        ModelError: The system is unknown, or an activation is given for a system without adapters.
        CheckpointError: A file is refused or damaged, two files have the same key, the activation
            is unknown, or, unless ``partial``, keys are unmapped, missing or of another shape.
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
                left_out |= {f"{file.path.name}: {name}": "not a tensor" for name in file.beside}
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
    """Find the place of every key by name and shape, without reading tensors.

    If any key of a group exists, all of its keys are required, for every index from 0 to the
    largest of its stack.
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
    """Return a hint for keys that do not fit: another system, or a partial import."""
    placed = {name: len(match_keys(table, shapes).mapped) for name, table in SYSTEMS.items()}
    best = max(placed, key=lambda name: placed[name])
    if placed[best] > len(report.mapped):
        return f"{placed[best]} of its {len(shapes)} keys are those of {best}"
    return "--partial writes the parts that fit"


def _settings(
    table: Table, report: ImportReport, config: Mapping[str, Any], activation: Activation | None
) -> dict[str, str]:
    """Return the settings of a model that tensors do not determine."""
    settings = dict(table.settings)
    if not any(part.endswith("_adapters") for part in report.parts):
        return settings
    said = config_field(config, table.non_linear)
    if said is not None and not isinstance(said, bool):
        raise CheckpointError(f"config.json: {table.non_linear}: expected true or false")
    found = None if said is None else "silu" if said else "identity"
    if found is None and activation is None:
        raise CheckpointError(
            f"adapters of {table.system}: tensors do not determine their activation, "
            f"and no config.json beside them has {table.non_linear}\n"
            "hint: --activation identity (the public code's default) or --activation silu"
        )
    if found is not None and activation not in {None, found}:
        raise CheckpointError(
            f"adapters of {table.system}: config.json says {found}, got --activation {activation}"
        )
    biased = any(each.name.endswith("adapter.down.bias") for each in report.mapped)
    language = found or activation or "identity"
    # in the public code, whose adapters have biases, vision adapters never have an activation
    return {
        **settings,
        "language_adapters": language,
        "vision_adapters": "identity" if biased else language,
    }


def _tokens_of(table: Table, config: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens whose indices are in ``config.json``."""
    numbers = [(token, config_field(config, name)) for name, token in table.tokens.items()]
    return {token: number for token, number in numbers if isinstance(number, int)}


def _replaces(later: WeightFile, earlier: WeightFile) -> bool:
    """Return whether a file has newer weights than shards, since training saved it separately."""
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
    """Return why a shape does not fit its row, or None; record new sizes if it fits."""
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
