"""COCO's images, annotations and categories, for formats that refer to them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deixis.data.sources.base import BadRecord, Part, RecordProblem
from deixis.data.sources.reading.fields import (
    CROWDS,
    DOUBTFUL,
    as_integer,
    as_key,
    as_list,
    as_object,
    as_text,
    flagged,
    image_path,
    image_size,
    mask_box,
    read_box,
    read_mask,
    record,
    required,
    sortable,
    text_field,
)
from deixis.data.sources.reading.inventory import NO_TAXONOMY, Inventory, Taxonomy
from deixis.data.sources.reading.streaming import list_elements, member_value
from deixis.errors import AnnotationError
from deixis.geometry import ImageSize
from deixis.geometry.boxes import BoxLayout
from deixis.structures import Instance, LeftOut

_NAMES = (
    "person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant - "
    "stop_sign parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe - "
    "backpack umbrella - - handbag tie suitcase frisbee skis snowboard sports_ball kite "
    "baseball_bat baseball_glove skateboard surfboard tennis_racket bottle - wine_glass cup fork "
    "knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair "
    "couch potted_plant bed - dining_table - - toilet - tv laptop mouse remote keyboard "
    "cell_phone microwave oven toaster sink refrigerator - book clock vase scissors teddy_bear "
    "hair_drier toothbrush"
)
COCO_CATEGORIES: Mapping[int, str] = MappingProxyType(
    {
        number: name.replace("_", " ")
        for number, name in enumerate(_NAMES.split(), start=1)
        if name != "-"
    }
)
"""COCO's 80 categories by number, for files without category names."""


def read_categories(path: Path) -> dict[int, str]:
    """Return the category names of a file by number.

    Raises:
        AnnotationError: The file has no categories, or they are damaged.
    """
    return {number: name for number, (name, _) in _read_categories(path).items()}


def read_taxonomy(path: Path) -> Taxonomy:
    """Return the taxonomy of a file's categories, from their supercategories.

    Raises:
        AnnotationError: As `read_categories`.
    """
    return Taxonomy.of(_read_categories(path).values())


def _read_categories(path: Path) -> dict[int, tuple[str, str]]:
    made: dict[int, tuple[str, str]] = {}
    try:
        for value in as_list(member_value(path, "categories"), "categories"):
            fields = as_object(value, "category")
            number = as_integer(required(fields, "id"), "id")
            _check_once(number, made)
            group = fields.get("supercategory")
            made[number] = (text_field(fields, "name"), group if isinstance(group, str) else "")
    except BadRecord as error:
        raise AnnotationError(f"{path}: {error.detail}") from error
    return made


def _check_once(number: int, known: Collection[int]) -> None:
    if number in known:
        raise BadRecord("bad_record", f"category {number} comes twice")


def image_of(parts: Sequence[Part], folder: Path) -> tuple[Path, ImageSize]:
    """Return path and size of the image that the only record in ``parts`` describes.

    Raises:
        BadRecord: There are no records or several, or the record is invalid.
    """
    if not parts:
        raise BadRecord("unknown_image", "no record of it")
    if len(parts) > 1:
        raise BadRecord("duplicate_image", f"{len(parts)} records")
    return image_in(record(parts[0]), folder)


def image_in(fields: Mapping[str, Any], folder: Path) -> tuple[Path, ImageSize]:
    """Return path and size of an image from the fields of its record.

    Raises:
        BadRecord: A field is missing or invalid.
    """
    path = image_path(folder, required(fields, "file_name"))
    return path, image_size(required(fields, "width"), required(fields, "height"))


def coco_parts(path: Path, wanted: set[str]) -> Iterator[Part | RecordProblem]:
    """Yield the image records (kind ``image``) and annotations (``annotation``) of the wanted images.

    Raises:
        AnnotationError: As `list_elements`.
    """
    for element in list_elements(path, ("images", "annotations")):
        place = f"{path.name}: {element.member}[{element.number}]"
        try:
            fields = as_object(element.value, element.member)
            if element.member == "images":
                key, kind, order = as_key(required(fields, "id"), "id"), "image", ""
            else:
                key, kind = as_key(required(fields, "image_id"), "image_id"), "annotation"
                order = sortable(as_key(required(fields, "id"), "id"))
            if key in wanted:
                yield Part(key, kind, order, place, element.text)
        except BadRecord as error:
            yield error.problem(place)


def check_new(part: Part, seen: set[str]) -> None:
    """Add the part's order to ``seen``.

    Raises:
        BadRecord: An earlier part had the same order.
    """
    if part.order in seen:
        raise BadRecord("duplicate_annotation", f"{part.kind} {part.order}")
    seen.add(part.order)


class Annotated:
    """The instances of one image by annotation number, for records that refer to annotations.

    Invalid annotations are left out and listed in `problems`. Two annotations with the same box and
    class are one instance.
    """

    def __init__(
        self, size: ImageSize, categories: Mapping[int, str], *, claimed: bool = True
    ) -> None:
        self._found = Inventory(claimed=claimed)
        self.size = size
        self.categories = categories
        self._at: dict[str, int] = {}
        self._unsound: set[str] = set()

    @property
    def instances(self) -> list[Instance]:
        """The instances so far."""
        return self._found.instances

    @property
    def problems(self) -> list[RecordProblem]:
        """The problems of the annotations that were left out."""
        return self._found.problems

    @property
    def notes(self) -> dict[str, int]:
        """Counts of normalisations by the name of their rule."""
        return self._found.notes

    def left_out(self, taxonomy: Taxonomy = NO_TAXONOMY) -> LeftOut:
        """Return the instances that were left out (`Inventory.left_out`)."""
        return self._found.left_out(taxonomy)

    def problem(
        self, error: BadRecord, place: str, fields: Mapping[str, Any] | None = None
    ) -> None:
        """List the problem of an annotation; its category is read from ``fields``."""
        category = None if fields is None else self.category_of(fields)
        self._found.problem(error, place, category=category)

    def remark(self, error: BadRecord, place: str) -> None:
        """List the problem of a record that is not an instance, such as a sentence."""
        self._found.remark(error, place)

    def add_parts(self, parts: Sequence[Part]) -> None:
        """Add annotations whose order is their number; the first of a number is kept."""
        for part in parts:
            fields: Mapping[str, Any] = {}
            try:
                fields = record(part)
                self.add(part.order, fields)
            except BadRecord as error:
                if part.order not in self._at:
                    self._unsound.add(part.order)
                self.problem(error, part.place, fields)

    def add(self, number: str, fields: Mapping[str, Any], *, layout: BoxLayout = "xywh") -> int:
        """Add an annotation and return the index of its instance.

        Raises:
            BadRecord: The annotation is invalid.
        """
        if number in self._at or number in self._unsound:
            raise BadRecord("duplicate_annotation", f"annotation {number}")
        self._at[number] = self._found.add(self.instance(fields, layout=layout))
        return self._at[number]

    def category_of(self, fields: Mapping[str, Any]) -> str | None:
        """Return the category of a record, or None if it is missing or unknown."""
        try:
            return self._category(fields)
        except BadRecord:
            return None

    def index(self, number: object) -> int:
        """Return the index of the instance of an annotation number.

        Raises:
            BadRecord: No annotation has this number, or it was invalid.
        """
        key = as_key(number, "annotation id")
        if sortable(key) not in self._at:
            state = "is invalid" if sortable(key) in self._unsound else "is missing"
            raise BadRecord("unknown_annotation", f"annotation {key} {state}")
        return self._at[sortable(key)]

    def knows(self, number: object) -> bool:
        """Return whether an annotation has this number, valid or not."""
        key = sortable(as_key(number, "annotation id"))
        return key in self._at or key in self._unsound

    def instance(self, fields: Mapping[str, Any], *, layout: BoxLayout = "xywh") -> Instance:
        """Return the instance of an annotation, with its box or the box around its mask.

        Raises:
            BadRecord: The annotation is invalid.
        """
        category = self._category(fields)
        segmentation = fields.get("segmentation")
        # some files write an empty list for a missing value
        mask = read_mask(segmentation, self.size) if segmentation not in (None, []) else None
        values = fields.get("bbox")
        if values is not None:
            box = read_box(values, self.size, self.notes, layout=layout)
        elif mask is not None:
            box = mask_box(mask)
        else:
            raise BadRecord("bad_record", "neither bbox nor segmentation")
        return Instance(
            category=category,
            box=box,
            mask=mask,
            attributes=("difficult",) if flagged(fields, DOUBTFUL) else (),
            crowd=flagged(fields, CROWDS),
        )

    def _category(self, fields: Mapping[str, Any]) -> str:
        if "category" in fields:
            return as_text(fields["category"], "category")
        number = as_integer(required(fields, "category_id"), "category_id")
        if number not in self.categories:
            raise BadRecord("unknown_category", f"category {number}")
        return self.categories[number]
