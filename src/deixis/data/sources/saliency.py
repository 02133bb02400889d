"""Saliency: a folder of pictures and one of masks of the same names (MSRA-10K, MSRA-B, DUTS).

The masks are PNG files, black and white or grey; pictures and masks may lie in one folder (MSRA-10K
has ``Imgs/NAME.jpg`` and ``Imgs/NAME.png``) or in two (DUTS has ``DUTS-TR-Image`` and
``DUTS-TR-Mask``). The mask is the only instance; its class is unknown and called ``salient object``.
The box is the bounding box of the mask.

Irregularities: grey edges, which are cut at half brightness (128) and counted as
``mask_thresholded``; masks of 0 and 1; a mask that is empty, has colours or another size than its
picture is left out by the engine or here, and so is a picture without a mask.

Tested on files written to the published form.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import image_path, mask_box
from deixis.data.sources.reading.file_names import IMAGE_SUFFIXES, named_files, one_name
from deixis.data.sources.reading.segment_pictures import read_grey
from deixis.errors import AnnotationError
from deixis.geometry import ImageSize, Mask
from deixis.structures import Instance, Sample

CATEGORY = "salient object"
_HALF = 128
_IMAGE, _MASK = "image", "mask"


@dataclass(frozen=True, slots=True)
class Saliency:
    """Pictures, and masks of the same names."""

    name: str
    images: Path
    masks: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The two folders."""
        return str(self.images), str(self.masks)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield the names of pictures and masks."""
        yield from named_files(self.masks, (".png",), _MASK)
        # in a folder of both, the PNG files are the masks
        both = self.images == self.masks
        suffixes = tuple(one for one in IMAGE_SUFFIXES if not (both and one == ".png"))
        yield from named_files(self.images, suffixes, _IMAGE)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a picture; reads its mask."""
        notes: dict[str, int] = {}
        try:
            image = one_name(parts, _IMAGE)
            grey = read_grey(self.masks, one_name(parts, _MASK))
            mask = _mask(grey, notes)
            path = image_path(self.images, image)
            instance = Instance(category=CATEGORY, box=mask_box(mask), mask=mask)
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=ImageSize(*grey.shape),
            instances=(instance,),
            salient=0,
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, (), tuple(sorted(notes.items())))


def _mask(grey: UInt8[np.ndarray, "height width"], notes: dict[str, int]) -> Mask:
    levels = np.flatnonzero(np.bincount(grey.ravel(), minlength=256)).tolist()
    if set(levels) <= {0, 1}:
        return Mask(grey == 1)
    if levels[-1] < _HALF:
        raise BadRecord("mask_damaged", f"levels {levels[0]} to {levels[-1]}: expected 0 to 255")
    if not set(levels) <= {0, 255}:
        notes["mask_thresholded"] = 1
    return Mask(grey >= _HALF)


def open_saliency(
    path: Path,
    *,
    name: str = "saliency",
    split: str = "",
    images: Path | None = None,
    masks: Path | None = None,
) -> Saliency:
    """Open the two folders.

    Args:
        path: A folder with ``...-Image`` and ``...-Mask`` (DUTS), with ``images`` and ``masks``, or
            with ``Imgs`` or pictures and masks themselves (MSRA-10K).
        name: Prefix of the sample names.
        split: The name of the split.
        images: The folder of the pictures.
        masks: The folder of the masks.

    Raises:
        AnnotationError: The folders are missing.
    """
    if images is None or masks is None:
        found = _folders(path)
        images, masks = images or found[0], masks or found[1]
    for folder in (path, images, masks):
        if not folder.is_dir():
            raise AnnotationError(f"{folder}: does not exist, expected a folder")
    return Saliency(name=name, images=images, masks=masks, split=split)


def _folders(path: Path) -> tuple[Path, Path]:
    pairs = [(path / "images", path / "masks"), (path / "image", path / "mask")]
    pairs += [(one, one.with_name(f"{one.name[:-5]}Mask")) for one in sorted(path.glob("*-Image"))]
    pairs += [(path / "Imgs", path / "Imgs"), (path, path)]
    return next(
        pair for pair in pairs if all(folder.is_dir() for folder in pair) or pair == pairs[-1]
    )
