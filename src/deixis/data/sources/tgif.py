"""TGIF: animated GIFs with captions, as lines with an address and a sentence.

``data/tgif-v1.0.tsv`` has a line for each caption: the address of a GIF, a tab, and what it shows.
``data/splits/train.txt``, ``val.txt`` and ``test.txt`` list the addresses of each split. GIFs are
files of one folder, named by the last part of their address; ``suffix`` is the suffix of copies in another
format (``.mp4``). All captions of a GIF are captions of one sample.

With ``split``, memory holds 16 bytes for each address of its list.

Irregularities: a duplicate caption of a GIF, which is counted (``caption_repeated``); a listed GIF without
a caption (``unknown_annotation``); two addresses with the same last part, so that the file is ambiguous
(``duplicate_image``); a GIF in two lists (``duplicate_annotation``).

Tested on files written by hand to the published format.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import as_text, image_path, record, text_field
from deixis.data.sources.reading.questions import the_file
from deixis.data.sources.reading.records import digest
from deixis.data.sources.reading.streaming import json_lines
from deixis.data.sources.reading.video_header import VIDEO_SUFFIXES, video_of
from deixis.errors import AnnotationError, RecipeError
from deixis.structures import GroundedText, Sample

SPLITS = ("train", "val", "test")
_CAPTION, _LISTED = "caption", "listed"
_FOLDERS = ("gifs", "images", "videos")


@dataclass(frozen=True, slots=True)
class Tgif:
    """A file of captions, the lists of some splits, and a folder of GIFs.

    With ``only``, GIFs that are not in a list are skipped.
    """

    name: str
    captions: Path
    lists: tuple[tuple[str, Path], ...]
    images: Path
    suffix: str = ".gif"
    only: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """The captions and the lists."""
        return (str(self.captions), *(str(path) for _, path in self.lists))

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per caption, and one a line of a list."""
        wanted: set[bytes] = set()
        for split, path in self.lists:
            for number, line in json_lines(path):
                place = f"{path.name}: line {number}"
                try:
                    address = as_text(line, "address")
                    key = _file_name(address)
                except BadRecord as error:
                    yield error.problem(place)
                    continue
                payload = json.dumps({"address": address, "split": split})
                if self.only:
                    wanted.add(_short(address))
                yield Part(key, _LISTED, split, place, payload)
        for number, line in json_lines(self.captions):
            place = f"{self.captions.name}: line {number}"
            try:
                address, caption = _captioned(line)
                if self.only and _short(address) not in wanted:
                    continue
                key = _file_name(address)
            except BadRecord as error:
                yield error.problem(place)
                continue
            payload = json.dumps({"address": address, "caption": caption})
            yield Part(key, _CAPTION, digest(caption), place, payload)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a GIF and its captions."""
        place = parts[0].place
        lists = [part for part in parts if part.kind == _LISTED]
        told = [part for part in parts if part.kind == _CAPTION]
        try:
            captions = _captions(key, parts, told)
            path = image_path(self.images, f"{key[: -len('.gif')]}{self.suffix}")
            video, size = video_of(path)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        problems = tuple(
            RecordProblem("duplicate_annotation", f"listed again, in {part.order}", part.place)
            for part in lists[1:]
        )
        repeated = len(told) - len(captions)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=video,
            size=size,
            captions=tuple(map(GroundedText, captions)),
            source=self.name,
            split=lists[0].order if lists else "",
            exhaustive=False,
        )
        return Reading(sample, problems, (("caption_repeated", repeated),) if repeated else ())


def _captions(key: str, parts: Sequence[Part], told: Sequence[Part]) -> dict[str, None]:
    """Return the distinct captions of a GIF, if all its parts have one address."""
    if len({text_field(record(part), "address") for part in parts}) > 1:
        raise BadRecord("duplicate_image", f"several addresses end in {key[:80]!r}")
    if not told:
        raise BadRecord("unknown_annotation", "a listed GIF without a caption")
    return {text_field(record(part), "caption"): None for part in told}


def _captioned(line: str) -> tuple[str, str]:
    fields = line.split("\t")
    if len(fields) != 2:
        raise BadRecord(
            "bad_record", f"expected an address, a tab and a caption, got {len(fields)}"
        )
    return as_text(fields[0], "address"), as_text(fields[1], "caption")


def _file_name(address: str) -> str:
    """Return the file name in an address."""
    try:
        name = urlsplit(address).path.rpartition("/")[2]
    except ValueError:
        name = ""
    if not name.lower().endswith(".gif") or len(name) < 5:
        raise BadRecord("bad_record", f"address {address[:80]!r}: expected that of a GIF")
    return name


def _short(address: str) -> bytes:
    return blake2b(address.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def open_tgif(
    path: Path,
    *,
    name: str = "tgif",
    split: str = "",
    images: Path | None = None,
    suffix: str = ".gif",
) -> Tgif:
    """Open the files of TGIF.

    Args:
        path: The data set's folder, its folder ``data``, or the file of captions alone.
        name: Prefix of the sample names.
        split: ``train``, ``val`` or ``test``; without it all captions are read, and the lists that
            there are say which split each GIF belongs to.
        images: The folder of the GIFs, if it is not ``gifs``, ``images`` or ``videos``.
        suffix: The suffix of the files, if they were converted to another format.

    Raises:
        AnnotationError: A file or the folder is missing.
        RecipeError: The split or suffix is unknown.
    """
    if split and split not in SPLITS:
        raise RecipeError(f"tgif: split {split!r}: expected one of {list(SPLITS)}")
    if suffix not in VIDEO_SUFFIXES:
        raise RecipeError(f"tgif: suffix {suffix!r}: expected one of {list(VIDEO_SUFFIXES)}")
    captions = the_file(path, "data/tgif-v1.0.tsv", "tgif-v1.0.tsv")
    folder = captions.parent / "splits"
    lists = [(one, folder / f"{one}.txt") for one in SPLITS if not split or one == split]
    for _, listing in lists:
        if split and not listing.is_file():
            raise AnnotationError(f"{listing}: does not exist, expected the list of a split")
    data = captions.parent
    roots = [data.parent, data] if data.name == "data" else [data]
    found = [root / one for root in roots for one in _FOLDERS if (root / one).is_dir()]
    place = images or (found[0] if found else roots[0] / _FOLDERS[0])
    if not place.is_dir():
        raise AnnotationError(f"{place}: does not exist, expected the folder of the GIFs")
    there = tuple((one, listing) for one, listing in lists if listing.is_file())
    return Tgif(name, captions, there, place, suffix, bool(split))
