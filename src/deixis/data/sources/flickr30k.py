"""Flickr30k Entities: captions whose phrases refer to chains, and boxes of the chains.

A file in ``Sentences`` has a caption a line, with ``[/EN#CHAIN/TYPE[/TYPE...] WORDS]`` around each
phrase; the file of the same name in ``Annotations`` has the size and, in XML, ``object`` elements
with one or more chains as their ``name`` and a ``bndbox``, or flags ``scene`` and ``nobndbox``.
``train.txt``, ``val.txt`` and ``test.txt`` list the pictures of a split.

All of these fields are used except the types of phrases. A phrase becomes one group of boxes, in the
order of the file. A phrase whose chain has no box (a scene, something invisible, chain 0) stays plain
text and is counted as ``phrase_without_box``. Samples have no instances, since chains have no class.

Boxes are ``xmin, ymin, xmax, ymax``, 1-based with inclusive right and bottom edges.

Irregularities: blanks around words; several chains of one box, several boxes of one chain; a chain
with an invalid box, which is left out, since its other boxes are incomplete; captions listed in
``UNRELATED_CAPTIONS``, which are left out and counted.

Tested on files written by hand to the published format.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import as_text, image_path, read_box
from deixis.data.sources.reading.file_names import listed, say_which
from deixis.data.sources.reading.streaming import opened
from deixis.data.sources.reading.xml_files import child_text, parse_xml, read_small_text
from deixis.data.sources.voc import read_corners, read_size
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.geometry.checks import shown
from deixis.structures import GroundedPhrase, GroundedText, Reference, Sample, UnitGroup

SPLITS = ("train", "val", "test")
UNRELATED = "UNRELATED_CAPTIONS"

_ANNOTATION, _SENTENCES, _UNRELATED = "annotation", "sentences", "unrelated"
_PHRASE = re.compile(r"\[/EN#([0-9]+)((?:/[^\s/\[\]]+)+)\s([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class Flickr30k:
    """Annotated captions of the pictures in ``listing``, or of all."""

    name: str
    images: Path
    annotations: Path
    sentences: Path
    listing: Path | None = None
    unrelated: Path | None = None
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The lists, and the folders of sentences and annotations."""
        paths = (self.listing, self.unrelated, self.sentences, self.annotations)
        return tuple(str(path) for path in paths if path is not None)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield the sentences and the annotation file of each picture."""
        unrelated = {} if self.unrelated is None else _unrelated(self.unrelated)
        folders = ((_SENTENCES, self.sentences, ".txt"), (_ANNOTATION, self.annotations, ".xml"))
        for place, key in listed(self.listing, self.sentences, ".txt"):
            try:
                for kind, folder, suffix in folders:
                    path = image_path(folder, f"{as_text(key, 'name')}{suffix}")
                    yield Part(key, kind, "", path.name, read_small_text(path, "bad_record"))
                for line in unrelated.get(key, ()):
                    yield Part(key, _UNRELATED, line, UNRELATED, line)
            except BadRecord as error:
                yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a picture with its captions and boxes."""
        problems: list[RecordProblem] = []
        notes: dict[str, int] = {}
        try:
            annotation = _only(parts, _ANNOTATION)
            sentences = _only(parts, _SENTENCES)
            root = parse_xml(annotation.payload)
            name = child_text(root, "filename") if root.find("filename") is not None else ""
            path = image_path(self.images, name or f"{key}.jpg")
            size = read_size(root)
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        chains = _chains(root, size, notes, problems, annotation.place)
        skipped = {part.payload for part in parts if part.kind == _UNRELATED}
        captions: list[GroundedText] = []
        for number, line in enumerate(sentences.payload.split("\n"), start=1):
            if not line.strip():
                continue
            if str(number) in skipped:
                notes["unrelated_caption"] = notes.get("unrelated_caption", 0) + 1
                continue
            try:
                captions.append(parse_sentence(line, chains, notes))
            except BadRecord as error:
                problems.append(error.problem(f"{sentences.place}: line {number}"))
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            captions=tuple(captions),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(problems), tuple(sorted(notes.items())))


def parse_sentence(
    line: str, chains: Mapping[str, Sequence[Box]], notes: dict[str, int]
) -> GroundedText:
    """Return the caption of a line: its words without brackets, and its phrases with boxes.

    Raises:
        BadRecord: A bracket is not closed or is empty, or the line has no words.
    """
    line = as_text(line, "sentence")
    text = ""
    phrases: list[GroundedPhrase] = []
    position = 0
    for found in _PHRASE.finditer(line):
        text += _outside(line[position : found.start()])
        words = found[3].strip()
        if not words:
            raise BadRecord("span_damaged", f"phrase {shown(found[0])} has no words")
        boxes = chains.get(found[1], ())
        if boxes:
            group = UnitGroup(("box",), tuple(Reference((box,)) for box in boxes))
            phrases.append(GroundedPhrase(words, len(text), len(text) + len(words), (group,)))
        else:
            notes["phrase_without_box"] = notes.get("phrase_without_box", 0) + 1
        text += words
        position = found.end()
    return GroundedText(text + _outside(line[position:]), tuple(phrases))


def _outside(text: str) -> str:
    if "[/EN#" in text:
        raise BadRecord("span_damaged", f"phrase {shown(text[text.index('[/EN#') :])} is damaged")
    return text


def _only(parts: Sequence[Part], kind: str) -> Part:
    found = [part for part in parts if part.kind == kind]
    if not found:
        raise BadRecord("unknown_annotation", f"no {kind}")
    if len(found) > 1:
        raise BadRecord("duplicate_image", f"is listed {len(found)} times")
    return found[0]


def _chains(
    root: ET.Element,
    size: ImageSize,
    notes: dict[str, int],
    problems: list[RecordProblem],
    place: str,
) -> dict[str, list[Box]]:
    chains: dict[str, list[Box]] = {}
    lost: set[str] = set()
    for number, thing in enumerate(root.findall("object")):
        named = {(name.text or "").strip() for name in thing.findall("name")}
        try:
            _check_chains(named)
            for corners in thing.findall("bndbox"):
                values = read_corners(corners, inclusive=True)
                box = read_box(values, size, notes, layout="xyxy")
                for name in named:
                    chains.setdefault(name, []).append(box)
        except BadRecord as error:
            lost |= named
            problems.append(error.problem(f"{place}: object {number}"))
    return {name: boxes for name, boxes in chains.items() if name not in lost}


def _check_chains(named: set[str]) -> None:
    if not named or not all(name.isascii() and name.isdigit() for name in named):
        raise BadRecord("bad_record", f"name: expected chains, got {shown(sorted(named))}")


def _unrelated(path: Path) -> dict[str, tuple[str, ...]]:
    """Return caption numbers, from 1, by picture; lines are ``PICTURE NUMBER``."""
    found: dict[str, tuple[str, ...]] = {}
    with opened(path) as file:
        for line in file.read(2**20).decode("utf-8", "replace").splitlines():
            words = line.split()
            if words and not words[0].startswith("#"):
                if len(words) != 2:
                    raise AnnotationError(f"{path}: expected PICTURE NUMBER, got {shown(line)}")
                found[words[0]] = (*found.get(words[0], ()), words[1])
    return found


def open_flickr30k(
    path: Path, *, name: str = "flickr30k", split: str = "", images: Path | None = None
) -> Flickr30k:
    """Open a folder with ``Annotations``, ``Sentences`` and the lists of splits.

    Args:
        path: The folder.
        name: Prefix of the sample names.
        split: ``train``, ``val`` or ``test``; required if there are lists.
        images: The folder of the pictures, if it is not ``flickr30k-images`` or
            ``flickr30k_images``.

    Raises:
        AnnotationError: The files are missing, or ``split`` is needed to choose among several.
    """
    for folder in (path / "Annotations", path / "Sentences"):
        if not folder.is_dir():
            raise AnnotationError(f"{folder}: does not exist, expected a folder")
    splits = sorted(file.stem for file in path.glob("*.txt") if file.name != f"{UNRELATED}.txt")
    if split not in splits and (split or splits):
        raise AnnotationError(f"{path}: has splits {splits}{say_which('flickr30k', splits)}")
    places = [images] if images else [path / "flickr30k-images", path / "flickr30k_images", path]
    unrelated = path / UNRELATED
    return Flickr30k(
        name=name,
        images=next(place for place in places if place.is_dir() or place == places[-1]),
        annotations=path / "Annotations",
        sentences=path / "Sentences",
        listing=path / f"{split}.txt" if split else None,
        unrelated=unrelated if unrelated.is_file() else None,
        split=split,
    )
