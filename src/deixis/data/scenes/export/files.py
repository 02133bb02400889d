"""Files that are complete under their final name, or not there."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8, UInt16
from numpy import ndarray
from PIL import Image

from deixis.errors import StorageError

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

# Drawn pictures pack nearly as well at the lowest level, in a third of the time.
_PNG_LEVEL = 1


@dataclass(slots=True)
class OutputFolder:
    """A folder to write into; ``written`` lists what it was given, in order.

    Every file is written beside its place under another name, flushed to the disk and then
    renamed, so a reader never sees half a file.

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
        data = content.encode("utf-8")
        self._place(name, lambda file: file.write(data))

    def image(self, name: str, pixels: UInt8[ndarray, "height width 3"]) -> None:
        """Write a picture as PNG."""
        picture = Image.fromarray(pixels)
        self._place(name, lambda file: picture.save(file, format="PNG", compress_level=_PNG_LEVEL))

    def image16(self, name: str, values: UInt16[ndarray, "height width"]) -> None:
        """Write one channel of 16 bits as PNG."""
        picture = Image.fromarray(np.ascontiguousarray(values))
        self._place(name, lambda file: picture.save(file, format="PNG", compress_level=_PNG_LEVEL))

    def _place(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        path = self.root / name
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
        self.written.append(path)
