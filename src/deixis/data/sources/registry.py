"""Sources by name, as the command line and mixtures name them: ``coco:PATH,split=val``."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deixis.data.sources.base import Source
from deixis.data.sources.coco import open_coco
from deixis.data.sources.jsonl import open_jsonl
from deixis.data.sources.scenes import Scenes
from deixis.errors import RecipeError

ORIENTATIONS = ("auto", "raw", "upright")


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be read: how it is opened, and from what.

    ``tried`` says what the reader was tried on: ``true files``, or ``files written to the
    published format``.
    """

    open: Callable[..., Source]
    summary: str
    tried: str


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source, how it was named, where its image names start, and which way its images stand."""

    source: Source
    spec: str
    root: Path
    orientation: str = "auto"

    def __post_init__(self) -> None:
        if self.orientation not in ORIENTATIONS:
            raise RecipeError(
                f"orientation {self.orientation!r}: expected one of {list(ORIENTATIONS)}"
            )


def _open_scenes(path: Path, **options: Any) -> Scenes:  # noqa: ARG001
    return Scenes(**options)


FORMATS: dict[str, Format] = {
    "coco": Format(open_coco, "instances, keypoints and captions in COCO's form", "true files"),
    "jsonl": Format(open_jsonl, "one image a line, of one's own", "our own files"),
    "scenes": Format(_open_scenes, "drawn scenes; the path is `train`, `val` …", "drawn"),
}
"""Every format by name."""


def open_source(spec: str) -> OpenedSource:
    """Open ``FORMAT:PATH[,option=value…]``.

    Every format takes ``name`` (what its samples are called after) and ``orientation`` (``auto``,
    ``raw`` or ``upright``); the rest are the format's own.

    Raises:
        RecipeError: The format or an option is unknown, or a value is of the wrong type.
        AnnotationError: The files are not there.
    """
    form, found, rest = spec.partition(":")
    if not found or form not in FORMATS:
        raise RecipeError(
            f"source {spec!r}: expected FORMAT:PATH with a format of {sorted(FORMATS)}"
        )
    path_text, *pairs = rest.split(",")
    if not path_text:
        raise RecipeError(f"source {spec!r}: expected a path after {form}:")
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not value:
            raise RecipeError(f"source {spec!r}: expected option=value, got {pair!r}")
        options[key] = value
    orientation = options.pop("orientation", "auto")
    opener = FORMATS[form].open
    if form == "scenes":
        options = _scene_options(spec, options, path_text)
        path = Path()
    else:
        path = Path(path_text)
        options = _typed(spec, opener, options)
    source = opener(path, **options)
    root = getattr(source, "images", None)
    return OpenedSource(source, spec, Path(root) if root is not None else Path(), orientation)


def _scene_options(spec: str, options: Mapping[str, str], split: str) -> dict[str, Any]:
    made: dict[str, Any] = {"split": split}
    for key, value in options.items():
        if key in {"count", "seed"}:
            made[key] = _number(spec, key, value)
        elif key in {"name", "level"}:
            made[key] = value
        else:
            raise RecipeError(f"source {spec!r}: scenes take count, seed, level and name")
    return made


def _typed(spec: str, opener: Callable[..., Source], options: Mapping[str, str]) -> dict[str, Any]:
    known = inspect.signature(opener).parameters
    made: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known or known[key].kind is not inspect.Parameter.KEYWORD_ONLY:
            names = [
                name for name, one in known.items() if one.kind is inspect.Parameter.KEYWORD_ONLY
            ]
            raise RecipeError(f"source {spec!r}: option {key!r}: expected one of {names}")
        default = known[key].default
        if isinstance(default, bool):
            if value not in {"true", "false"}:
                raise RecipeError(f"source {spec!r}: {key}: expected true or false")
            made[key] = value == "true"
        elif isinstance(default, int):
            made[key] = _number(spec, key, value)
        elif "Path" in str(known[key].annotation):
            made[key] = Path(value)
        else:
            made[key] = value
    return made


def _number(spec: str, key: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise RecipeError(f"source {spec!r}: {key}: expected a whole number, got {value!r}")
    return int(value)


def named_apart(sources: list[OpenedSource]) -> list[OpenedSource]:
    """Give sources of one name numbers, so that each has its own: ``coco``, ``coco-2``."""
    seen: dict[str, int] = {}
    made = []
    for one in sources:
        name = one.source.name
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            source: Any = replace(one.source, name=f"{name}-{seen[name]}")  # type: ignore[type-var]
            made.append(replace(one, source=source))
        else:
            made.append(one)
    return made
