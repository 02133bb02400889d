"""Pictures for readers to find."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, width: int = 64, height: int = 48, *, orientation: int = 1) -> Path:
    """Write a picture of one colour, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (width, height), (90, 120, 60))
    exif = image.getexif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def linked(folder: Path, names: Iterable[str], *, width: int = 64, height: int = 48) -> Path:
    """Put one picture under many names."""
    folder.mkdir(parents=True, exist_ok=True)
    first = picture(folder / "one.png", width, height)
    for name in set(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(first, folder / name)
    return folder


def levels(path: Path, values: np.ndarray) -> Path:
    """Write a grey picture of 8 or 16 bits, or one of colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(values)).save(path)
    return path
