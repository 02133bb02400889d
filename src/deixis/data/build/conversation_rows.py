"""Converts conversations to rows of a shard and back: words, spans and geometry, no notation.

The turns of a conversation are one JSON text. A question is a list of texts and regions, an answer
a text with phrases, each with groups of units. ``docs/data-engine.md`` describes it for other readers.
"""

import base64
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from deixis.data.build.stored_images import stored_image
from deixis.data.build.stored_videos import stored_video
from deixis.errors import AnnotationError, DeixisError
from deixis.geometry import Box, CodedMask, DepthMap, ImageSize, Keypoints, Mask, Point, Scribble
from deixis.geometry.checks import shown
from deixis.structures import (
    Conversation,
    Description,
    GroundedPhrase,
    GroundedText,
    QuestionPart,
    Reference,
    Region,
    Turn,
    Unit,
    UnitGroup,
)

_DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError, zlib.error)


def dump_turns(turns: tuple[Turn, ...]) -> str:
    """Write turns as one line of JSON; the same turns always give the same text."""
    return orjson.dumps([_turn(turn) for turn in turns], option=orjson.OPT_SERIALIZE_NUMPY).decode()


def load_turns(text: str, size: ImageSize) -> tuple[Turn, ...]:
    """Read turns from the JSON of `dump_turns`; masks are decoded on first use.

    Raises:
        AnnotationError: The text does not have the format of `dump_turns`.
    """
    try:
        return tuple(_read_turn(_as(dict, turn), size) for turn in _as(list, orjson.loads(text)))
    except DeixisError as error:
        raise AnnotationError(f"turns: {error}") from error
    except _DAMAGE as error:
        raise AnnotationError(f"turns: {type(error).__name__}: {error}") from error


def _turn(turn: Turn) -> dict[str, Any]:
    made: dict[str, Any] = {
        "task": turn.task,
        "question": [_part(part) for part in turn.question],
    }
    if turn.answer is not None:
        made["answer"] = _text(turn.answer)
    if turn.weight != 1.0:
        made["weight"] = turn.weight
    return made


def _part(part: QuestionPart) -> Any:
    if isinstance(part, Description):
        return {"description": str(part)}
    return part if isinstance(part, str) else region(part)


def _text(text: GroundedText) -> dict[str, Any]:
    if not text.phrases:
        return {"text": text.text}
    return {
        "text": text.text,
        "phrases": [
            {
                "start": phrase.start,
                "end": phrase.end,
                "groups": [
                    {
                        "units": list(group.unit_types),
                        "references": [
                            [None if unit is None else region(unit) for unit in reference.units]
                            for reference in group.references
                        ],
                    }
                    for group in phrase.groups
                ],
            }
            for phrase in text.phrases
        ],
    }


def region(value: Unit | Scribble) -> dict[str, Any]:
    """Return a region or unit as a JSON object with one field, which names its kind."""
    match value:
        case Box():
            return {"box": [value.x1, value.y1, value.x2, value.y2]}
        case Mask():
            return {"mask": value.to_annotation()}
        case Point():
            return {"point": [value.x, value.y]}
        case Scribble():
            return {"scribble": {"points": list(value.points), "width": value.width}}
        case Keypoints():
            return {"keypoints": {"names": list(value.names), "values": value.to_annotation()}}
        case DepthMap():
            return {"depth": _depth(value)}


def _depth(depth: DepthMap) -> dict[str, Any]:
    packed = zlib.compress(depth.values.astype("<f4").tobytes(), 6)
    return {
        "kind": depth.kind,
        "size": list(depth.size),
        "float32": base64.b64encode(packed).decode(),
    }


def _read_turn(fields: Mapping[str, Any], size: ImageSize) -> Turn:
    question = tuple(_read_part(part, size) for part in _as(list, fields["question"]))
    answer = fields.get("answer")
    return Turn(
        question,
        None if answer is None else _read_text(answer, size),
        _as(str, fields["task"]),
        _as((int, float), fields.get("weight", 1.0)),
    )


def _as(kind: type | tuple[type, ...], value: Any) -> Any:
    """Return the value after a check of its type; a bool does not count as a number."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"unexpected {shown(value)}")
    return value


def _read_part(part: Any, size: ImageSize) -> QuestionPart:
    if isinstance(part, str):
        return part
    if part.keys() == {"description"}:
        return Description(_as(str, part["description"]))
    region: Region = read_region(part, size)
    return region


def _read_text(fields: Mapping[str, Any], size: ImageSize) -> GroundedText:
    text = _as(str, fields["text"])
    phrases = []
    for phrase in fields.get("phrases", ()):
        start, end = _as(int, phrase["start"]), _as(int, phrase["end"])
        groups = tuple(
            UnitGroup(
                tuple(_as(str, name) for name in _as(list, group["units"])),
                tuple(
                    Reference(
                        tuple(None if one is None else read_region(one, size) for one in units)
                    )
                    for units in group["references"]
                ),
            )
            for group in phrase["groups"]
        )
        phrases.append(GroundedPhrase(text[start:end], start, end, groups))
    return GroundedText(text, tuple(phrases))


def read_region(fields: Mapping[str, Any], size: ImageSize) -> Any:
    """Read a region or unit from the JSON of `region`."""
    ((kind, value),) = fields.items()
    return _READERS[kind](value, size)


def _read_mask(value: Mapping[str, Any], size: ImageSize) -> Mask:
    if ImageSize(*value["size"]) != size:
        raise AnnotationError(f"mask of {value['size']}, the image is {size}")
    if "polygons" in value:
        return CodedMask(value["polygons"], size)
    return Mask.from_coco(value, size=size)


def _read_depth(value: Mapping[str, Any], size: ImageSize) -> DepthMap:
    if ImageSize(*value["size"]) != size:
        raise AnnotationError(f"depth map of {value['size']}, the image is {size}")
    reader = zlib.decompressobj()
    expected = size.height * size.width * 4
    raw = reader.decompress(base64.b64decode(value["float32"], validate=True), expected + 1)
    if len(raw) != expected:
        raise AnnotationError(f"depth map: {len(raw)} bytes or more, expected {expected}")
    values = np.frombuffer(raw, "<f4").astype(np.float32).reshape(tuple(size))
    return DepthMap(values, kind=value["kind"])


_READERS: Mapping[str, Callable[[Any, ImageSize], Any]] = {
    "box": lambda value, _: Box(*value),
    "point": lambda value, _: Point(*value),
    "mask": _read_mask,
    "scribble": lambda value, _: Scribble(
        tuple((x, y) for x, y in value["points"]), value["width"]
    ),
    "keypoints": lambda value, _: Keypoints.from_annotation(
        value["values"], names=tuple(value["names"])
    ),
    "depth": _read_depth,
}


def to_conversation(row: Mapping[str, Any], *, root: Path | None = None) -> Conversation:
    """Convert a shard's row to a conversation about an image or a video.

    The image is a path under ``root``, a drawn image or embedded bytes.

    Raises:
        AnnotationError: The row holds no conversation, or names a picture outside its folder.
        GeometryError: The image size is not positive.
    """
    size = ImageSize(row["height"], row["width"])
    of_video = row.get("video") is not None
    if not of_video and row["image"] is None:
        raise AnnotationError("a row has neither an image nor a video")
    return Conversation(
        row["id"],
        stored_video(row, root=root) if of_video else stored_image(row["image"], root=root),
        size,
        load_turns(row["turns"], size),
        independent=row["independent"],
    )
