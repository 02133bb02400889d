"""The package's own JSON-lines format, one image per line.

Only ``image`` is required; a text is the path of a file beside the JSON-lines file or in the image
folder, or the name of a drawn picture (``scenes://LEVEL/SPLIT/SEED/INDEX``).
``docs/your-own-data.md`` describes every field with examples.

Boxes are pixels ``[x1, y1, x2, y2]`` with exclusive right and bottom edges unless the line says
``"box_format": "xywh"``. Masks are COCO's segmentations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_integer,
    as_key,
    as_list,
    as_number,
    as_object,
    as_text,
    image_path,
    image_size,
    mask_box,
    read_box,
    read_mask,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.shapes import box_around, oriented_box
from deixis.data.sources.reading.streaming import json_lines, parse_json
from deixis.data.sources.scenes import DRAWN, DrawnImage, drawn_image
from deixis.errors import AnnotationError, GeometryError
from deixis.geometry import COCO_KEYPOINTS, ImageSize, Keypoints, Point
from deixis.geometry.boxes import BoxLayout
from deixis.geometry.checks import shown
from deixis.structures import (
    Expression,
    GroundedPhrase,
    GroundedText,
    Instance,
    QuestionAnswer,
    Reference,
    Region,
    Relation,
    Sample,
    UnitGroup,
)

FIELDS = frozenset(
    {
        *("id", "image", "width", "height", "split", "exhaustive", "box_format", "objects"),
        *("relations", "expressions", "captions", "questions", "absent", "salient"),
        "not_exhaustive",
    }
)
OBJECT_FIELDS = frozenset(
    {
        *("category", "box", "mask", "keypoints", "keypoint_names", "attributes", "crowd"),
        *("oriented", "score"),
    }
)
FAMILIES = ("location", "appearance", "long")


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A JSON-lines file and the folder of its images."""

    name: str
    path: Path
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per line."""
        for number, line in json_lines(self.path):
            place = f"{self.path.name}: line {number}"
            try:
                fields = as_object(parse_json(line), "line")
                named = fields.get("id", fields.get("image"))
                key = as_key(required(fields, "image") if named is None else named, "id")
            except BadRecord as error:
                yield error.problem(place)
            else:
                yield Part(key, "image", "", place, line)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a line; two lines of one id are two problems."""
        if len(parts) > 1:
            places = ", ".join(part.place for part in parts[:3])
            return Reading(
                None, (RecordProblem("duplicate_image", f"{len(parts)} lines: {places}"),)
            )
        place = parts[0].place
        try:
            fields = record(parts[0])
            _check_names(fields, FIELDS)
            notes: dict[str, int] = {}
            image = _image(self.images, required(fields, "image"), notes)
            reader = _Line(fields, _size(fields, image), place)
            reader.found.notes |= notes
            sample = reader.sample(f"{self.name}/{key}", image, self.name, self.split)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        return Reading(sample, tuple(reader.found.problems), reader.found.counts())


class _Line:
    """Reads one line; invalid pieces are left out and listed as problems."""

    def __init__(self, fields: Mapping[str, Any], size: ImageSize, place: str) -> None:
        self.fields = fields
        self.size = size
        self.place = place
        exhaustive = fields.get("exhaustive", False)
        if not isinstance(exhaustive, bool):
            raise BadRecord("bad_record", "exhaustive: expected true or false")
        self.found = Inventory(claimed=exhaustive)
        layout = fields.get("box_format", "xyxy")
        if layout not in {"xyxy", "xywh"}:
            raise BadRecord("bad_record", f"box_format: expected xyxy or xywh, got {layout!r}")
        self.layout: BoxLayout = "xywh" if layout == "xywh" else "xyxy"
        self.at: dict[int, int] = {}

    def sample(self, id_: str, image: Path | DrawnImage, source: str, split: str) -> Sample:
        fields = self.fields
        for number, value in enumerate(self.items("objects")):
            made = self.attempt("objects", number, lambda v=value: self.instance(v))
            if made is None:
                self.found.lose(_category(value))
            else:
                self.at[number] = self.found.add(made)
        for name in self.each("not_exhaustive", lambda value: as_text(value, "not_exhaustive")):
            self.found.lose(name)
        salient = fields.get("salient")
        left_out = self.found.left_out()
        instances = self.found.instances
        doubtful = {one.category for one in instances} | left_out.categories | left_out.broader

        def absent(value: object) -> str:
            name = as_text(value, "absent")
            if name in doubtful:
                raise BadRecord("bad_record", f"absent: {shown(name)} is among the objects")
            return name

        return Sample(
            id=id_,
            image=image,
            size=self.size,
            instances=tuple(instances),
            relations=self.each("relations", self.relation),
            expressions=self.each("expressions", self.expression),
            captions=self.each("captions", self.caption),
            questions=self.each("questions", self.question),
            salient=None if salient is None else self.index(salient),
            absent_categories=self.each("absent", absent),
            source=source,
            split=text_field(fields, "split") if "split" in fields else split,
            left_out=left_out,
        )

    def items(self, name: str) -> Sequence[Any]:
        return as_list(self.fields.get(name, []), name)

    def each(self, name: str, read: Any) -> tuple[Any, ...]:
        made = (
            self.attempt(name, number, lambda v=value: read(v))
            for number, value in enumerate(self.items(name))
        )
        return tuple(one for one in made if one is not None)

    def attempt(self, name: str, number: int, make: Any) -> Any:
        try:
            return make()
        except BadRecord as error:
            self.found.remark(error, f"{self.place}, {name}[{number}]")
        except GeometryError as error:
            bad = BadRecord("bad_record", str(error))
            self.found.remark(bad, f"{self.place}, {name}[{number}]")
        return None

    def index(self, value: object) -> int:
        number = as_integer(value, "object number")
        if number not in self.at:
            raise BadRecord("unknown_annotation", f"object {number} is missing or invalid")
        return self.at[number]

    def instance(self, value: object) -> Instance:
        fields = as_object(value, "object")
        _check_names(fields, OBJECT_FIELDS)
        mask = read_mask(fields["mask"], self.size) if fields.get("mask") is not None else None
        oriented = None
        if fields.get("oriented") is not None:
            oriented = oriented_box(fields["oriented"])
        if fields.get("box") is not None:
            box = read_box(fields["box"], self.size, self.found.notes, layout=self.layout)
        elif mask is not None:
            box = mask_box(mask)
        elif oriented is not None:
            box = box_around(oriented, self.size, self.found.notes)
        else:
            raise BadRecord("bad_record", "an object needs a box, a mask or oriented corners")
        keypoints = None
        if fields.get("keypoints") is not None:
            names = tuple(
                as_text(name, "keypoint name")
                for name in as_list(fields.get("keypoint_names", list(COCO_KEYPOINTS)), "names")
            )
            try:
                keypoints = Keypoints.from_annotation(
                    as_list(fields["keypoints"], "keypoints"), names=names
                ).clip(self.size)
            except GeometryError as error:
                raise BadRecord("keypoints_damaged", str(error)) from None
        crowd = fields.get("crowd", False)
        if not isinstance(crowd, bool):
            raise BadRecord("bad_record", "crowd: expected true or false")
        return Instance(
            category=text_field(fields, "category"),
            box=box,
            mask=mask,
            keypoints=keypoints,
            attributes=tuple(
                as_text(word, "attribute")
                for word in as_list(fields.get("attributes", []), "attributes")
            ),
            crowd=crowd,
            oriented=oriented,
            score=None if fields.get("score") is None else as_number(fields["score"], "score"),
        )

    def relation(self, value: object) -> Relation:
        subject, predicate, object_ = _three(value, "relation")
        return Relation(self.index(subject), as_text(predicate, "predicate"), self.index(object_))

    def expression(self, value: object) -> Expression:
        fields = as_object(value, "expression")
        family = fields.get("family", "location")
        if family not in FAMILIES:
            raise BadRecord("bad_record", f"family: expected one of {list(FAMILIES)}")
        objects = [self.index(one) for one in as_list(required(fields, "objects"), "objects")]
        return Expression(text_field(fields, "text"), tuple(objects), str(family))

    def caption(self, value: object) -> GroundedText:
        if isinstance(value, str):
            return GroundedText(as_text(value, "caption"))
        fields = as_object(value, "caption")
        # offsets refer to the unmodified text
        text = required(fields, "text")
        as_text(text, "caption")
        phrases = []
        for one in as_list(fields.get("phrases", []), "phrases"):
            part = as_object(one, "phrase")
            start = as_integer(required(part, "start"), "start")
            end = as_integer(required(part, "end"), "end")
            if not 0 <= start < end <= len(text):
                raise BadRecord("span_damaged", f"phrase [{start}:{end}] of {len(text)} characters")
            objects = [self.index(one) for one in as_list(required(part, "objects"), "objects")]
            phrases.append(GroundedPhrase(text[start:end], start, end, self.groups(objects)))
        phrases.sort(key=lambda phrase: (phrase.start, -phrase.end))
        try:
            return GroundedText(text, tuple(phrases))
        except GeometryError as error:
            raise BadRecord("span_damaged", str(error)) from None

    def groups(self, objects: Sequence[int]) -> tuple[UnitGroup, ...]:
        if not objects:
            return ()
        chosen = [self.found.instances[index] for index in objects]
        masked = all(instance.mask is not None for instance in chosen)
        names = ("box", "mask") if masked else ("box",)
        return (
            UnitGroup(
                names,
                tuple(Reference((one.box, one.mask) if masked else (one.box,)) for one in chosen),
            ),
        )

    def question(self, value: object) -> QuestionAnswer:
        fields = as_object(value, "question")
        instance = fields.get("object")
        return QuestionAnswer(
            question=text_field(fields, "question"),
            answer=text_field(fields, "answer"),
            instance=None if instance is None else self.index(instance),
            region=self.region(fields["region"]) if "region" in fields else None,
            kind=text_field(fields, "kind") if "kind" in fields else "vqa",
            options=tuple(
                as_text(option, "option")
                for option in as_list(fields.get("options", []), "options")
            ),
            rationale=text_field(fields, "rationale") if "rationale" in fields else "",
        )

    def region(self, value: object) -> Region:
        fields = as_object(value, "region")
        if "box" in fields:
            return read_box(fields["box"], self.size, self.found.notes, layout=self.layout)
        if "point" in fields:
            numbers = as_list(fields["point"], "point")
            if len(numbers) != 2:
                raise BadRecord("bad_record", "point: expected two numbers")
            x, y = (as_number(number, "point") for number in numbers)
            if not (0 <= x < self.size.width and 0 <= y < self.size.height):
                raise BadRecord("box_outside", f"point ({x}, {y}) leaves its {self.size} image")
            return Point(x, y)
        if "mask" in fields:
            return read_mask(fields["mask"], self.size)
        raise BadRecord("bad_record", "region: expected a box, a point or a mask")


def _category(value: object) -> str | None:
    """Return the class of an object that could not be read."""
    try:
        return text_field(as_object(value, "object"), "category")
    except BadRecord:
        return None


def _image(folder: Path, name: object, notes: dict[str, int]) -> Path | DrawnImage:
    if isinstance(name, str) and name.startswith(DRAWN):
        return drawn_image(name)
    return image_path(folder, name, notes)


def _size(fields: Mapping[str, Any], image: Path | DrawnImage) -> ImageSize:
    if "width" in fields and "height" in fields:
        return image_size(fields["width"], fields["height"])
    if isinstance(image, DrawnImage):
        raise BadRecord("bad_record", "a drawn picture needs its width and height")
    return header_size(image)


def _check_names(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(set(fields) - known)
    if unknown:
        raise BadRecord("bad_record", f"unknown fields {unknown}, expected some of {sorted(known)}")


def _three(value: object, name: str) -> tuple[Any, Any, Any]:
    values = as_list(value, name)
    if len(values) != 3:
        raise BadRecord("bad_record", f"{name}: expected [subject, predicate, object]")
    return values[0], values[1], values[2]


def open_jsonl(
    path: Path, *, name: str = "jsonl", images: Path | None = None, split: str = ""
) -> JsonLines:
    """Open a JSON-lines file; image names are relative to its folder or to ``images``.

    Raises:
        AnnotationError: The file is missing.
    """
    if not path.is_file():
        raise AnnotationError(f"{path}: expected a JSON-lines file")
    return JsonLines(name, path, images or path.parent, split)
