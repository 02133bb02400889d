"""COCO's records for formats that refer to them: an image, its annotations, the names of categories."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deixis.data.sources.base import BadRecord, Fault, Part
from deixis.data.sources.fields import (
    as_integer,
    as_key,
    as_list,
    as_object,
    as_text,
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
from deixis.data.sources.streaming import list_elements, member_value
from deixis.errors import AnnotationError
from deixis.geometry import ImageSize
from deixis.geometry.boxes import BoxLayout
from deixis.structures import Instance

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
"""COCO's 80 categories by number, for files that say the number alone."""


def read_categories(path: Path) -> dict[int, str]:
    """The names of a file's categories by number.

    Raises:
        AnnotationError: The file has none, or they are damaged.
    """
    made: dict[int, str] = {}
    try:
        for value in as_list(member_value(path, "categories"), "categories"):
            fields = as_object(value, "category")
            made |= {
                _new(as_integer(required(fields, "id"), "id"), made): text_field(fields, "name")
            }
    except BadRecord as error:
        raise AnnotationError(f"{path}: {error.detail}") from error
    return made


def _new(number: int, known: Mapping[int, str]) -> int:
    if number in known:
        raise BadRecord("bad_record", f"category {number} comes twice")
    return number


def image_of(parts: Sequence[Part], folder: Path) -> tuple[Path, ImageSize]:
    """Path and size of the image that a single record is about.

    Raises:
        BadRecord: There is no record, or several, or it is not sound.
    """
    if not parts:
        raise BadRecord("unknown_image", "no record of it")
    if len(parts) > 1:
        raise BadRecord("duplicate_image", f"{len(parts)} records")
    return image_in(record(parts[0]), folder)


def image_in(fields: Mapping[str, Any], folder: Path) -> tuple[Path, ImageSize]:
    """Path and size that a record says.

    Raises:
        BadRecord: A field is missing or not sound.
    """
    path = image_path(folder, required(fields, "file_name"))
    return path, image_size(required(fields, "width"), required(fields, "height"))


def coco_parts(path: Path, wanted: set[str]) -> Iterator[Part | Fault]:
    """Yield images (of kind ``image``) and annotations (``annotation``) of some images.

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
            yield Fault(error.code, error.detail, place)


def check_new(part: Part, seen: set[str]) -> None:
    """Check that no part before had the same order.

    Raises:
        BadRecord: One had.
    """
    if part.order in seen:
        raise BadRecord("duplicate_annotation", f"{part.kind} {part.order}")
    seen.add(part.order)


class Annotated:
    """The instances of one image, each under the number of its annotation, while others refer to them.

    What cannot be used is left out and listed in ``faults``.
    """

    def __init__(self, size: ImageSize, categories: Mapping[int, str]) -> None:
        self.size = size
        self.categories = categories
        self.instances: list[Instance] = []
        self.faults: list[Fault] = []
        self.notes: dict[str, int] = {}
        self._at: dict[str, int] = {}
        self._lost: set[str] = set()

    def add_parts(self, parts: Sequence[Part]) -> None:
        """Add annotations whose order is their number; of two with one number the first is kept."""
        for part in parts:
            try:
                self.add(part.order, record(part))
            except BadRecord as error:
                if part.order not in self._at:
                    self._lost.add(part.order)
                self.fault(error, part.place)

    def add(self, number: str, fields: Mapping[str, Any], *, layout: BoxLayout = "xywh") -> int:
        """Add an annotation and return its index.

        Raises:
            BadRecord: It is not sound.
        """
        if number in self._at or number in self._lost:
            raise BadRecord("duplicate_annotation", f"annotation {number}")
        instance = self.instance(fields, layout=layout)
        self._at[number] = len(self.instances)
        self.instances.append(instance)
        return self._at[number]

    def index(self, number: object) -> int:
        """The index of the annotation of a number.

        Raises:
            BadRecord: There is none, or it could not be used.
        """
        key = as_key(number, "annotation id")
        if sortable(key) not in self._at:
            state = "is not sound" if sortable(key) in self._lost else "is not there"
            raise BadRecord("unknown_annotation", f"annotation {key} {state}")
        return self._at[sortable(key)]

    def knows(self, number: object) -> bool:
        """Whether an annotation of a number was added, or was lost."""
        key = sortable(as_key(number, "annotation id"))
        return key in self._at or key in self._lost

    def fault(self, error: BadRecord, place: str) -> None:
        """List what cannot be used."""
        self.faults.append(Fault(error.code, error.detail, place))

    def instance(self, fields: Mapping[str, Any], *, layout: BoxLayout = "xywh") -> Instance:
        """Read an annotation: its box, or the one around its mask.

        Raises:
            BadRecord: It is not sound.
        """
        category = self._category(fields)
        segmentation = fields.get("segmentation")
        # an empty list is how some files say that there is none
        mask = read_mask(segmentation, self.size) if segmentation not in (None, []) else None
        values = fields.get("bbox")
        if values is not None:
            box = read_box(values, self.size, self.notes, layout=layout)
        elif mask is not None:
            box = mask_box(mask)
        else:
            raise BadRecord("bad_record", "neither bbox nor segmentation")
        crowd = as_integer(fields.get("iscrowd") or 0, "iscrowd") == 1
        return Instance(category=category, box=box, mask=mask, crowd=crowd)

    def _category(self, fields: Mapping[str, Any]) -> str:
        if "category" in fields:
            return as_text(fields["category"], "category")
        number = as_integer(required(fields, "category_id"), "category_id")
        if number not in self.categories:
            raise BadRecord("unknown_category", f"category {number}")
        return self.categories[number]
