"""RefCOCO, RefCOCO+, RefCOCOg and RefCLEF: expressions for one annotation of an image.

The refs are ``refs(unc|google|umd|berkeley).p``, read without executing the pickle
(`deixis.data.sources.reading.pickles`), the same records as JSON, or Parquet copies. They are joined
by ``ann_id`` to the ``instances.json`` beside them; all its annotations of an image become instances.
Parquet copies with their own annotations (``raw_anns`` and ``raw_image_info``, or ``bbox``,
``height`` and ``width``) do not need this file; they lack the other instances and are not exhaustive.

Fields used: ``ref_id``, ``ann_id``, ``image_id``, ``split``, ``category_id``, ``file_name`` and
``sentences`` (``raw`` or ``sent``) or ``captions``. Boxes of instances are COCO's ``[x, y, width,
height]`` in pixels; a ``bbox`` in Parquet is ``xyxy`` unless ``box_layout`` says otherwise.

Irregularities: ``file_name`` of a ref has a suffix after the image's number (``..._16.jpg``), which is
removed; a ref may name a missing annotation (``unknown_annotation``); RefCLEF's test splits have
letters; annotation numbers may be texts. Refs with a list of numbers are gRefCOCO's
(`deixis.data.sources.grefcoco`).

Tried on a true record of ``refs(unc).p`` and of ``instances.json``, and on files written to the
published format.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.coco_records import (
    COCO_CATEGORIES,
    Annotated,
    check_new,
    coco_parts,
    image_in,
    image_of,
    read_categories,
    read_taxonomy,
)
from deixis.data.sources.reading.fields import (
    as_integer,
    as_key,
    as_list,
    as_object,
    as_text,
    record,
    required,
    sortable,
)
from deixis.data.sources.reading.file_names import first_folder
from deixis.data.sources.reading.inventory import NO_TAXONOMY, Taxonomy
from deixis.data.sources.reading.pickles import read_pickle
from deixis.data.sources.reading.streaming import Unparsed, list_elements, parse_json
from deixis.errors import AnnotationError
from deixis.geometry import ImageSize
from deixis.geometry.boxes import BoxLayout
from deixis.geometry.checks import shown
from deixis.structures import Expression, Sample

FAMILIES = ("location", "appearance", "long")
PICKLES = (".p", ".pkl", ".pickle")
SPLITS = ("train", "val", "test", "testA", "testB", "testC")

_ANNOTATION, _IMAGE, _REF = "annotation", "image", "ref"
_COLUMNS = (
    *("ref_id", "ann_id", "image_id", "split", "category_id", "category", "file_name"),
    *("sentences", "captions", "bbox", "height", "width", "raw_anns", "raw_image_info"),
)
_NODE_LIMIT, _DEPTH_LIMIT = 10_000, 8
_BATCH = 1024
_TRAILING = re.compile(r"(COCO_[a-z0-9]+_[0-9]{12})_[0-9]+(\.[a-z]+)")
_FOLDERS = {
    "refcoco": "location",
    "refcoco+": "appearance",
    "refcocoplus": "appearance",
    "refcocop": "appearance",
    "refcocog": "long",
    "grefcoco": "location",
    "refclef": "location",
    "referitgame": "location",
}


@dataclass(frozen=True, slots=True)
class RefCoco:
    """Refs of one split and their instances.

    ``refs`` are one file, or the shards of a Parquet copy. ``family`` is the kind of all expressions.
    ``wording`` selects the text of a sentence: ``raw``, as people wrote it, or ``sent``, as in the
    benchmarks (lower case, no punctuation).
    """

    name: str
    images: Path
    refs: tuple[Path, ...]
    instances: Path | None = None
    categories: Mapping[int, str] = field(default_factory=lambda: COCO_CATEGORIES)
    split: str = ""
    family: str = "location"
    wording: str = "raw"
    box_layout: BoxLayout = "xyxy"
    exhaustive: bool = True
    taxonomy: Taxonomy = NO_TAXONOMY

    @property
    def files(self) -> tuple[str, ...]:
        """The refs and the instances."""
        paths = self.refs if self.instances is None else (*self.refs, self.instances)
        return tuple(map(str, paths))

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield the refs of the split, then their images and all annotations of these images.

        Memory holds the numbers of these images, and the whole content of a pickle.
        """
        wanted: set[str] = set()
        splits: set[str] = set()
        for path in self.refs:
            for number, value, text in _records(path):
                place = f"{path.name}: [{number}]"
                try:
                    fields = as_object(value, "ref")
                    found = fields.get("split")
                    if found is not None and self.split != "all":
                        split = as_text(found, "split")
                        splits.add(split)
                        if not in_split(split, self.split):
                            continue
                    key = as_key(required(fields, "image_id"), "image_id")
                    order = sortable(as_key(required(fields, "ref_id"), "ref_id"))
                    yield Part(key, _REF, order, place, _plain(value) if text is None else text)
                    wanted.add(key)
                except BadRecord as error:
                    yield error.problem(place)
        if splits and not wanted:
            raise AnnotationError(
                f"{self.refs[0]}: no refs of split {self.split!r}, found {sorted(splits)}"
            )
        if self.instances is not None:
            yield from coco_parts(self.instances, wanted)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its annotations and refs."""
        refs = [part for part in parts if part.kind == _REF]
        images = [part for part in parts if part.kind == _IMAGE]
        try:
            path, size = image_of(images, self.images) if images else self._own_image(key, refs)
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        claimed = self.exhaustive and self.instances is not None
        annotated = Annotated(size, self.categories, claimed=claimed)
        annotated.add_parts([part for part in parts if part.kind == _ANNOTATION])
        expressions: list[Expression] = []
        seen: set[str] = set()
        for part in refs:
            fields: Mapping[str, Any] = {}
            try:
                check_new(part, seen)
                fields = record(part)
                targets = self._targets(fields, annotated)
            except BadRecord as error:
                # a ref to a missing annotation is about a lost instance
                annotated.problem(error, part.place, fields)
                continue
            try:
                expressions += self._expressions(fields, targets, part.place, annotated)
            except BadRecord as error:
                annotated.remark(error, part.place)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(annotated.instances),
            expressions=tuple(expressions),
            source=self.name,
            split="" if self.split == "all" else self.split,
            left_out=annotated.left_out(self.taxonomy),
        )
        return Reading(sample, tuple(annotated.problems), tuple(sorted(annotated.notes.items())))

    def _own_image(self, key: str, refs: Sequence[Part]) -> tuple[Path, ImageSize]:
        found: set[tuple[Path, ImageSize]] = set()
        for part in refs:
            fields = record(part)
            own = _own(fields, "raw_image_info")
            if own is None and {"file_name", "height", "width"} <= fields.keys():
                name = coco_file_name(as_text(fields["file_name"], "file_name"))
                own = {**fields, "file_name": name}
            if own is not None:
                found.add(image_in(own, self.images))
        if not found:
            annotations = ", ".join(str(record(part).get("ann_id")) for part in refs[:3])
            raise BadRecord("unknown_image", f"image {key} of annotations {annotations}")
        if len(found) > 1:
            raise BadRecord("duplicate_image", "refs disagree about its name or size")
        return found.pop()

    def _targets(self, fields: Mapping[str, Any], annotated: Annotated) -> tuple[int, ...]:
        number = required(fields, "ann_id")
        if isinstance(number, list):
            return generalised_targets(fields, annotated)
        return (self._target(number, fields, annotated),)

    def _target(self, number: object, fields: Mapping[str, Any], annotated: Annotated) -> int:
        if self.instances is None and not annotated.knows(number):
            key = sortable(as_key(number, "ann_id"))
            own = _own(fields, "raw_anns")
            if own is not None:
                return annotated.add(key, own)
            if fields.get("bbox") is not None:
                return annotated.add(key, fields, layout=self.box_layout)
        return annotated.index(number)

    def _expressions(
        self,
        fields: Mapping[str, Any],
        targets: tuple[int, ...],
        place: str,
        annotated: Annotated,
    ) -> list[Expression]:
        made: list[Expression] = []
        name = "sentences" if fields.get("sentences") is not None else "captions"
        for sentence in as_list(required(fields, name), name):
            try:
                text = self._text(sentence)
                made.append(Expression(text, targets, self.family))
            except BadRecord as error:
                annotated.remark(error, place)
        return made

    def _text(self, sentence: object) -> str:
        if isinstance(sentence, str):
            return as_text(sentence, "sentence")
        fields = as_object(sentence, "sentence")
        other = "sent" if self.wording == "raw" else "raw"
        name = self.wording if fields.get(self.wording) is not None else other
        return as_text(required(fields, name), name)


def generalised_targets(fields: Mapping[str, Any], annotated: Annotated) -> tuple[int, ...]:
    """Return the instance indices of a ref of gRefCOCO; empty if it has no target.

    ``ann_id`` is a list; ``[-1]`` means no target. Duplicate ids count once and are noted
    (``target_named_twice``).

    Raises:
        BadRecord: An annotation is missing or was left out, the list is empty, or ``no_target``
            contradicts it.
    """
    numbers = [as_integer(one, "annotation id") for one in as_list(fields["ann_id"], "ann_id")]
    said = fields.get("no_target")
    if not numbers or (-1 in numbers and len(numbers) > 1):
        raise BadRecord("bad_record", f"ann_id: expected ids, or [-1] alone, got {shown(numbers)}")
    if said is not None and said is not (numbers == [-1]):
        raise BadRecord("bad_record", f"ann_id {shown(numbers)} with no_target {shown(said)}")
    if numbers == [-1]:
        return ()
    known = list(dict.fromkeys(numbers))
    if len(known) < len(numbers):
        annotated.notes["target_named_twice"] = annotated.notes.get("target_named_twice", 0) + 1
    return tuple(annotated.index(number) for number in known)


def coco_file_name(name: str) -> str:
    """Return the image name from a ref's ``file_name``, without the suffix after the image's number.

    >>> coco_file_name("COCO_train2014_000000581857_16.jpg")
    'COCO_train2014_000000581857.jpg'
    """
    found = _TRAILING.fullmatch(name)
    return name if found is None else found[1] + found[2]


def in_split(found: str, asked: str) -> bool:
    """Return whether a ref's split belongs to the wanted one, by the rule of the toolkit.

    ``test`` selects all test splits, and ``testA`` all test splits with the letter A.

    >>> in_split("testAB", "testA"), in_split("train", "testA"), in_split("val", "val")
    (True, False, True)
    """
    if asked.startswith("test") and found.startswith("test"):
        return set(asked[4:]) <= set(found[4:])
    return found == asked


def _records(path: Path) -> Iterator[tuple[int, Any, str | None]]:
    """Yield the number, the value and, for JSON files, the text of each ref."""
    if path.suffix in PICKLES:
        refs = read_pickle(path)
        if not isinstance(refs, list):
            raise AnnotationError(f"{path}: expected a list of refs, got {type(refs).__name__}")
        for number, value in enumerate(refs):
            yield number, value, None
    elif path.suffix == ".parquet":
        yield from _rows(path)
    else:
        for element in list_elements(path):
            yield element.number, element.value, element.text


def _rows(path: Path) -> Iterator[tuple[int, Any, None]]:
    number = 0
    try:
        if not path.is_file():
            raise AnnotationError(f"{path}: does not exist, expected a Parquet file")
        with pq.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in _COLUMNS]
            missing = {"image_id", "ref_id"} - set(columns)
            if missing or not {"sentences", "captions"} & set(columns):
                raise AnnotationError(
                    f"{path}: expected columns ref_id, image_id and sentences or captions, "
                    f"got {file.schema_arrow.names}"
                )
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                for row in batch.to_pylist():
                    yield number, {k: v for k, v in row.items() if v is not None}, None
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path}: at row {number}: damaged: {error}") from error


def _plain(value: object) -> str:
    """Return a ref as JSON; shared and recursive values of a pickle are bounded."""
    left = _NODE_LIMIT

    def walk(one: object, depth: int) -> object:
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEPTH_LIMIT:
            raise BadRecord("bad_record", "a ref is nested too deeply or too large")
        if isinstance(one, dict):
            return {str(key): walk(item, depth + 1) for key, item in one.items()}
        if isinstance(one, list | tuple):
            return [walk(item, depth + 1) for item in one]
        if one is None or isinstance(one, bool | int | float | str):
            return one
        raise BadRecord("bad_record", f"a ref holds a {type(one).__name__}")

    return json.dumps(walk(value, 0))


def _own(fields: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return a COCO record that a field of a ref has as JSON text."""
    value = fields.get(name)
    if isinstance(value, str) and not isinstance(value, Unparsed):
        value = parse_json(value)
    return None if value is None else as_object(value, name)


def open_refcoco(
    path: Path,
    *,
    name: str = "refcoco",
    split: str = "",
    by: str = "",
    family: str = "",
    instances: Path | None = None,
    images: Path | None = None,
    wording: str = "raw",
    box_layout: str = "xyxy",
) -> RefCoco:
    """Open a folder such as ``refcoco+``, or take a file of refs.

    Args:
        path: The folder, with ``refs(BY).p`` or ``.json`` and ``instances.json``; a folder of
            Parquet files; or one of these files.
        name: Prefix of the sample names.
        split: ``train``, ``val``, ``test``, ``testA``, ``testB``, ``testC``, or ``all``.
        by: The authors of the refs, if a folder has several: ``unc``, ``google``, ``umd`` or ``berkeley``.
        family: The kind of expression, if the folder's name does not imply it: ``location``
            (RefCOCO, RefCLEF), ``appearance`` (RefCOCO+) or ``long`` (RefCOCOg).
        instances: The instances, if they are not beside the refs.
        images: The folder of the images.
        wording: ``raw`` or ``sent``.
        box_layout: The layout of ``bbox`` in Parquet: ``xyxy`` or ``xywh``.

    Raises:
        AnnotationError: The files are missing, or an option is needed to choose among several.
    """
    if split not in {*SPLITS, "all"}:
        raise AnnotationError(
            f"{path}: split {split!r}: expected one of {[*SPLITS, 'all']}, as in "
            f"refcoco:PATH,split=val"
        )
    if wording not in {"raw", "sent"} or box_layout not in {"xyxy", "xywh"}:
        raise AnnotationError(
            f"{path}: expected wording=raw or sent, and box_layout=xyxy or xywh, "
            f"got {wording!r} and {box_layout!r}"
        )
    folder = path.parent if path.is_file() else path
    refs = (path,) if path.is_file() else _refs_in(path, split, by, family)
    beside = (folder / "instances.json", folder / f"instances_{split}.json")
    if instances is None:
        instances = next((file for file in beside if file.is_file()), None)
    if instances is None and refs[0].suffix != ".parquet":
        raise AnnotationError(
            f"{folder}: expected instances.json beside {refs[0].name}, or instances=PATH"
        )
    kind = "saiapr_tc-12" if "clef" in folder.name else "mscoco/images/train2014"
    return RefCoco(
        name=name,
        images=images or first_folder(folder.parent / "images" / kind, folder / "images", folder),
        refs=refs,
        instances=instances,
        categories=COCO_CATEGORIES if instances is None else read_categories(instances),
        split=split,
        family=_family(refs[0], family),
        wording=wording,
        box_layout="xywh" if box_layout == "xywh" else "xyxy",
        # RefCLEF's instances are a selection of segments
        exhaustive="clef" not in folder.name,
        taxonomy=NO_TAXONOMY if instances is None else read_taxonomy(instances),
    )


def _refs_in(folder: Path, split: str, by: str, family: str) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: does not exist, expected a folder or file of refs")
    pattern = f"refs({by})" if by else "refs"
    found = [
        file
        for file in sorted(folder.iterdir())
        if file.name.removeprefix("g").startswith(pattern) and file.suffix in {*PICKLES, ".json"}
    ]
    # a JSON copy beside the official file has the same refs
    official = {file.stem for file in found if file.suffix in PICKLES}
    found = [file for file in found if file.suffix in PICKLES or file.stem not in official]
    # exports of deixis have family and split in their names; other files do not
    own = [file for file in found if file.stem == f"refs_{family}_{split}"]
    if family and own:
        found = own
    if len(found) == 1:
        return tuple(found)
    if found:
        names = [file.name for file in found]
        raise AnnotationError(
            f"{folder}: has {names}; say which, as in refcoco:PATH,split=val,by=unc or "
            f"refcoco:{folder / names[0]},split=val"
        )
    shards = tuple(sorted(folder.glob("*.parquet"))) or tuple(sorted(folder.glob("data/*.parquet")))
    if not shards or by:
        raise AnnotationError(f"{folder}: expected {pattern}….p, .json or .parquet")
    return shards


def _family(refs: Path, family: str) -> str:
    if not family:
        own = re.match(r"refs_([a-z]+)_", refs.name)
        names = [folder.name.lower() for folder in list(refs.resolve().parents)[:2]]
        family = own[1] if own else next((_FOLDERS[name] for name in names if name in _FOLDERS), "")
    if family not in FAMILIES:
        raise AnnotationError(
            f"{refs}: family {family!r}: expected one of {list(FAMILIES)}, as in "
            "refcoco:PATH,split=val,family=appearance"
        )
    return family
