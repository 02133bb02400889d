"""Writes JSON documents, text and pictures of drawn scenes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from numpy import ndarray
from PIL import Image

from deixis.storage import make_folder, write_file

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

# drawn pictures compress almost as well at the lowest level, in a third of the time
_PNG_LEVEL = 1


@dataclass(slots=True)
class OutputFolder:
    """An output folder; ``written`` lists its files in the order of writing.

    Each file appears whole, but is not synced to the disk. To survive a power failure, ``root`` has
    to be a draft of `deixis.storage.whole_folder`.

    Raises:
        StorageError: A folder or file cannot be written.
    """

    root: Path
    written: list[Path] = field(default_factory=list)

    def json(self, name: str, content: JsonValue) -> None:
        """Write a JSON document."""
        self.text(name, json.dumps(content, separators=(",", ":"), allow_nan=False))

    def text(self, name: str, content: str) -> None:
        """Write UTF-8 text."""
        self._place(name, content.encode())

    def image(self, name: str, pixels: UInt8[ndarray, "height width 3"]) -> None:
        """Write a picture as PNG."""
        self._place(name, _png(Image.fromarray(pixels)))

    def image16(self, name: str, values: UInt16[ndarray, "height width"]) -> None:
        """Write one channel of 16 bits as PNG."""
        self._place(name, _png(Image.fromarray(np.ascontiguousarray(values))))

    def _place(self, name: str, data: bytes) -> None:
        path = self.root / name
        make_folder(path.parent)
        write_file(path, data, synced=False)
        self.written.append(path)


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()
