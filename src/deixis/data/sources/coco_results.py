"""COCO's results: a list of detections with scores, about the images of a COCO file.

Fields used: ``image_id``, ``category_id``, ``bbox`` (``[x, y, width, height]`` in pixels),
``segmentation`` and ``score``. Images and names of categories are those of the instances file, whose
annotations are not read. An image without detections gives no sample.

A score is kept with its instance (`deixis.structures.Instance.score`); detections with a score below
``threshold`` are counted and left out. Detections are predictions, so no image is exhaustive and no class
is absent. Keypoints of results are counted and left out.

Tested on files written by hand to the published format.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.coco_records import (
    Annotated,
    coco_parts,
    image_of,
    read_categories,
)
from deixis.data.sources.reading.fields import as_key, as_number, as_object, record, required
from deixis.data.sources.reading.file_names import first_folder
from deixis.data.sources.reading.records import digest
from deixis.data.sources.reading.shapes import count
from deixis.data.sources.reading.streaming import list_elements
from deixis.errors import AnnotationError
from deixis.structures import Sample

_IMAGE, _RESULT = "image", "result"
_FIELDS = ("category_id", "bbox", "segmentation", "score")


@dataclass(frozen=True, slots=True)
class CocoResults:
    """A file of results and the file of their images."""

    name: str
    images: Path
    results: Path
    instances: Path
    categories: Mapping[int, str] = field(default_factory=dict)
    threshold: float = 0.0
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Both files."""
        return str(self.results), str(self.instances)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield the detections, then their images; memory holds the image numbers."""
        wanted: set[str] = set()
        for element in list_elements(self.results):
            place = f"{self.results.name}: [{element.number}]"
            try:
                fields = as_object(element.value, "result")
                key = as_key(required(fields, "image_id"), "image_id")
            except BadRecord as error:
                yield error.problem(place)
            else:
                wanted.add(key)
                yield Part(key, _RESULT, digest(element.text), place, element.text)
        for part in coco_parts(self.instances, wanted):
            if isinstance(part, RecordProblem) or part.kind == _IMAGE:
                yield part

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its detections."""
        try:
            path, size = image_of([part for part in parts if part.kind == _IMAGE], self.images)
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        found = Annotated(size, self.categories)
        instances = []
        for part in parts:
            if part.kind != _RESULT:
                continue
            try:
                fields = record(part)
                score = float(as_number(required(fields, "score"), "score"))
                if score < self.threshold:
                    count(found.notes, "below_threshold")
                    continue
                if fields.get("keypoints") is not None:
                    count(found.notes, "keypoints_of_results")
                known = {name: fields[name] for name in _FIELDS if name in fields}
                instances.append(replace(found.instance(known), score=score))
            except BadRecord as error:
                found.problem(error, part.place)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            # highest scores first, regardless of the order of the file
            instances=tuple(sorted(instances, key=lambda one: -(one.score or 0.0))),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(found.problems), tuple(sorted(found.notes.items())))


def open_coco_results(
    path: Path,
    *,
    name: str = "coco_results",
    instances: Path | None = None,
    images: Path | None = None,
    threshold: float = 0.0,
    split: str = "",
) -> CocoResults:
    """Open a file of results and a file of images.

    Args:
        path: The results, a JSON list.
        name: Prefix of the sample names.
        instances: The file with ``images`` and ``categories`` that the detector was run on.
        images: The folder of the images, if it is not that of the instances file or the one above.
        threshold: Detections of a lower score are left out.
        split: The split of all samples.

    Raises:
        AnnotationError: A file is missing, or the instances file has no categories.
    """
    if not path.is_file():
        raise AnnotationError(f"{path}: expected a JSON file of results")
    if instances is None:
        raise AnnotationError(
            f"{path}: say which images it is about, as in "
            "coco_results:PATH,instances=instances_val.json"
        )
    root = instances.parent
    root = root.parent if root.name == "annotations" else root
    return CocoResults(
        name=name,
        images=images or first_folder(root / "images" / split, root / split, root / "images", root),
        results=path,
        instances=instances,
        categories=read_categories(instances),
        threshold=threshold,
        split=split,
    )
