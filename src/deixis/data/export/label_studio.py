"""Writes Label Studio's ``tasks.json`` and the matching ``labeling-config.xml``.

Coordinates are percentages of the picture's sides. A box is a region; the mask and keypoints of the
same instance are child regions (``parentID``). A mask of one polygon stays a polygon; other masks
become run lengths of the brush. Captions are the texts of one text area.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from deixis.data.export.brush import encode_brush
from deixis.data.export.coco import Categories
from deixis.data.export.files import Records, write_list, write_text
from deixis.data.export.items import Item, Losses
from deixis.errors import RecipeError
from deixis.geometry import ImageSize, Keypoints, Mask
from deixis.structures import Instance, Sample

LOCAL_FILES = "/data/local-files/?d="
"""URL prefix under which Label Studio serves the files of its document root."""
RESULTS = ("annotations", "predictions")


class LabelStudioWriter:
    """Writes ``tasks.json`` with one task for each picture.

    Args:
        folder: The folder of the export.
        losses: Counts contents that are left out.
        results: Write results as ``annotations``, or as ``predictions`` for review.
        url: Prefix of picture names.
    """

    carries = frozenset({"masks", "keypoints", "relations", "captions"})
    needs_look = False

    def __init__(
        self,
        folder: Path,
        losses: Losses,
        *,
        results: str = "annotations",
        url: str = LOCAL_FILES,
    ) -> None:
        if results not in RESULTS:
            raise RecipeError(f"results {results!r}: expected one of {list(RESULTS)}")
        self.folder = folder
        self.losses = losses
        self.results = results
        self.url = url
        self.categories = Categories()
        self.joints: dict[str, None] = {}
        self.tasks = Records(folder / ".draft")

    def look(self, sample: Sample) -> None:
        """Do nothing."""

    def add(self, item: Item) -> None:
        """Write a task."""
        sample = item.sample
        results: list[dict[str, Any]] = []
        for number, instance in enumerate(sample.instances):
            results += self._instance(instance, f"o{number}", sample.size)
        for relation in sample.relations:
            results.append(
                {
                    "type": "relation",
                    "from_id": f"o{relation.subject}",
                    "to_id": f"o{relation.object}",
                    "direction": "right",
                    "labels": [relation.predicate],
                }
            )
        if sample.captions:
            texts = [caption.text for caption in sample.captions]
            results.append(_result("captions", "textarea", "caption", sample.size, {"text": texts}))
        answer: dict[str, Any] = {"result": results}
        if self.results == "predictions":
            answer["model_version"] = sample.source or "deixis"
        data = {
            "image": self.url + quote(item.file_name),
            "key": item.key,
            "width": sample.size.width,
            "height": sample.size.height,
        }
        self.tasks.add([{"id": item.id, "data": data, self.results: [answer]}])

    def finish(self) -> None:
        """Assemble the file, and write the labeling configuration."""
        self.tasks.close()
        write_list(self.folder / "tasks.json", self.tasks)
        self.tasks.path.unlink()
        names = list(self.categories.numbers)
        lines = ["<View>", '  <Image name="image" value="$image"/>']
        for tag, name, labels in (
            ("RectangleLabels", "box", names),
            ("PolygonLabels", "polygon", names),
            ("BrushLabels", "brush", names),
            ("KeyPointLabels", "keypoint", list(self.joints)),
        ):
            lines.append(f'  <{tag} name="{name}" toName="image">')
            lines += [f"    <Label value={quoteattr(label)}/>" for label in labels]
            lines.append(f"  </{tag}>")
        lines += ['  <TextArea name="caption" toName="image"/>', "</View>", ""]
        write_text(self.folder / "labeling-config.xml", "\n".join(lines))

    def close(self) -> None:
        """Close the temporary file."""
        self.tasks.close()

    def _instance(self, instance: Instance, id_: str, size: ImageSize) -> list[dict[str, Any]]:
        self.categories.number(instance.category)
        box = instance.box
        value = {
            "x": 100 * box.x1 / size.width,
            "y": 100 * box.y1 / size.height,
            "width": 100 * box.width / size.width,
            "height": 100 * box.height / size.height,
            "rotation": 0,
            "rectanglelabels": [instance.category],
        }
        made = [_result(id_, "rectanglelabels", "box", size, value)]
        if instance.mask is not None:
            made.append(_mask(instance.mask, instance.category, id_, size))
        if instance.keypoints is not None:
            made += self._keypoints(instance.keypoints, id_, size)
        return made

    def _keypoints(self, keypoints: Keypoints, id_: str, size: ImageSize) -> list[dict[str, Any]]:
        made = []
        for number, name in enumerate(keypoints.names):
            self.joints.setdefault(name)
            seen = int(keypoints.visibility[number])
            if not seen:
                continue
            x, y = keypoints.positions[number].tolist()
            value = {
                "x": 100 * x / size.width,
                "y": 100 * y / size.height,
                "width": 0.5,
                "keypointlabels": [name],
            }
            result = _result(f"{id_}k{number}", "keypointlabels", "keypoint", size, value)
            result["parentID"] = id_
            if seen == 1:
                result["meta"] = {"text": ["occluded"]}
            made.append(result)
        return made


def _mask(mask: Mask, category: str, id_: str, size: ImageSize) -> dict[str, Any]:
    polygons = mask.to_annotation().get("polygons")
    if isinstance(polygons, list) and len(polygons) == 1:
        (polygon,) = polygons
        points = [
            [100 * x / size.width, 100 * y / size.height]
            for x, y in zip(polygon[0::2], polygon[1::2], strict=True)
        ]
        value: dict[str, Any] = {"points": points, "closed": True, "polygonlabels": [category]}
        result = _result(f"{id_}m", "polygonlabels", "polygon", size, value)
    else:
        value = {"format": "rle", "rle": encode_brush(mask.array), "brushlabels": [category]}
        result = _result(f"{id_}m", "brushlabels", "brush", size, value)
    result["parentID"] = id_
    return result


def _result(
    id_: str, kind: str, name: str, size: ImageSize, value: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": id_,
        "type": kind,
        "from_name": name,
        "to_name": "image",
        "original_width": size.width,
        "original_height": size.height,
        "image_rotation": 0,
        "value": value,
    }
