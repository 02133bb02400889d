"""The formats, and sources opened from a specification such as ``coco:PATH,split=val``."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deixis.data.sources.base import Source
from deixis.data.sources.coco import open_coco
from deixis.data.sources.coco_interactive import open_coco_interactive
from deixis.data.sources.coco_results import open_coco_results
from deixis.data.sources.coco_stuff import open_coco_stuff
from deixis.data.sources.createml import open_createml
from deixis.data.sources.cvat import open_cvat
from deixis.data.sources.depth import open_depth, open_hrwsi, open_kitti, open_nyu
from deixis.data.sources.diagrams import (
    open_ai2d,
    open_docvqa,
    open_dvqa,
    open_iconqa,
    open_scienceqa,
)
from deixis.data.sources.dota import open_dota
from deixis.data.sources.flickr30k import open_flickr30k
from deixis.data.sources.folders import open_ade20k, open_cityscapes
from deixis.data.sources.google_refexp import open_google_refexp
from deixis.data.sources.gqa import open_gqa_scenes
from deixis.data.sources.grand import open_grand
from deixis.data.sources.grefcoco import open_grefcoco
from deixis.data.sources.grit import open_grit
from deixis.data.sources.jsonl import open_jsonl
from deixis.data.sources.kitti_objects import open_kitti_objects
from deixis.data.sources.label_studio import open_label_studio
from deixis.data.sources.labelme import open_labelme
from deixis.data.sources.llava import open_llava
from deixis.data.sources.llava_grounding import open_llava_grounding
from deixis.data.sources.lvis import open_lvis
from deixis.data.sources.open_images import open_open_images
from deixis.data.sources.openpsg import open_openpsg
from deixis.data.sources.osprey import open_osprey
from deixis.data.sources.panoptic import open_panoptic
from deixis.data.sources.png import open_png
from deixis.data.sources.pointqa import open_pointqa
from deixis.data.sources.refcoco import open_refcoco
from deixis.data.sources.saliency import open_saliency
from deixis.data.sources.scenes import Scenes
from deixis.data.sources.scenes_video import open_scenes_video
from deixis.data.sources.tgif import open_tgif
from deixis.data.sources.vcr import open_vcr
from deixis.data.sources.via import open_via
from deixis.data.sources.video_folder import open_video_folder
from deixis.data.sources.visual7w import open_visual7w
from deixis.data.sources.visual_genome import open_visual_genome
from deixis.data.sources.voc import open_voc
from deixis.data.sources.voc_segmentation import open_voc_segmentation
from deixis.data.sources.vqa import open_aokvqa, open_gqa, open_pope, open_vqa, open_vsr
from deixis.data.sources.yolo import open_yolo
from deixis.errors import RecipeError

_DECIMAL = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")
ORIENTATIONS = ("auto", "raw", "upright")
SIZES = ("declared", "scaled", "file")


@dataclass(frozen=True, slots=True)
class Format:
    """An annotation format: the function that opens it, a summary, and the files it was tested on.

    ``tried`` names the test files: original files of the data set or a part of them, files that
    deixis writes, or files written by hand to the published format. ``videos`` is true if every
    sample is a video.
    """

    open: Callable[..., Source]
    summary: str
    tried: str
    videos: bool = False


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source with its specification ``spec`` and the folder ``root`` of its image names.

    ``orientation`` is the frame of the annotations. ``sizes`` decides how to treat an annotated size
    that differs from the size of the image file: as a mistake (``declared``), as the size of a
    resized copy that was annotated (``scaled``), or not at all (``file``). ``videos`` is true if
    every sample is a video.
    """

    source: Source
    spec: str
    root: Path
    orientation: str = "auto"
    videos: bool = False
    sizes: str = "declared"

    def __post_init__(self) -> None:
        if self.sizes not in SIZES:
            raise RecipeError(f"sizes {self.sizes!r}: expected one of {list(SIZES)}")
        if self.orientation not in ORIENTATIONS:
            raise RecipeError(
                f"orientation {self.orientation!r}: expected one of {list(ORIENTATIONS)}"
            )


def _open_scenes(path: Path, **options: Any) -> Scenes:  # noqa: ARG001
    return Scenes(**options)


_TRUE = "original files"
_OWN = "files written by deixis"
_WRITTEN = "files written by hand"

FORMATS: dict[str, Format] = {
    "ade20k": Format(open_ade20k, "ADE20K: images of class indices", _WRITTEN),
    "ai2d": Format(open_ai2d, "AI2D: multiple choice about diagrams", _WRITTEN),
    "aokvqa": Format(open_aokvqa, "A-OKVQA: multiple choice with rationales", _WRITTEN),
    "cityscapes": Format(open_cityscapes, "Cityscapes: polygons of street scenes", _WRITTEN),
    "coco": Format(
        open_coco, "COCO: instances, keypoints and captions, and other files in this format", _TRUE
    ),
    "coco_interactive": Format(
        open_coco_interactive,
        "COCO-Interactive: points, scribbles, boxes and masks as prompts",
        _WRITTEN,
    ),
    "coco_results": Format(
        open_coco_results,
        "COCO results: detections with scores for the images of an annotation file",
        _WRITTEN,
    ),
    "coco_stuff": Format(open_coco_stuff, "COCO-Stuff: masks of stuff classes", _WRITTEN),
    "createml": Format(open_createml, "Create ML: a JSON list of images with boxes", _WRITTEN),
    "cvat": Format(open_cvat, "CVAT: XML for images and for video", _WRITTEN),
    "depth": Format(open_depth, "depth maps exported from drawn scenes", _OWN),
    "docvqa": Format(open_docvqa, "DocVQA: questions about documents", _WRITTEN),
    "dota": Format(open_dota, "DOTA: turned boxes in text files", _WRITTEN),
    "dvqa": Format(open_dvqa, "DVQA: questions about bar charts", _WRITTEN),
    "flickr30k": Format(
        open_flickr30k, "Flickr30k Entities: captions whose phrases have boxes", _OWN
    ),
    "google_refexp": Format(
        open_google_refexp, "Google RefExp: expressions for COCO's annotations", _TRUE
    ),
    "gqa": Format(open_gqa, "GQA: questions", _WRITTEN),
    "gqa_scenes": Format(open_gqa_scenes, "GQA: scene graphs", _WRITTEN),
    "grand": Format(open_grand, "GranD: objects and dense captions", _TRUE),
    "grefcoco": Format(
        open_grefcoco, "gRefCOCO: expressions for one instance, several or none", _WRITTEN
    ),
    "grit": Format(open_grit, "GRIT: captions whose chunks have boxes", _WRITTEN),
    "hrwsi": Format(open_hrwsi, "HRWSI: relative depth", _WRITTEN),
    "iconqa": Format(open_iconqa, "IconQA: questions about icons", _WRITTEN),
    "jsonl": Format(open_jsonl, "JSON lines of your own, one image per line", _OWN),
    "kitti": Format(open_kitti, "KITTI: depth in metres", _WRITTEN),
    "kitti_objects": Format(
        open_kitti_objects, "KITTI: boxes of cars, cyclists and pedestrians", _WRITTEN
    ),
    "label_studio": Format(
        open_label_studio, "Label Studio: tasks with their annotations or predictions", _OWN
    ),
    "labelme": Format(open_labelme, "labelme: a JSON file of shapes beside each image", _WRITTEN),
    "llava": Format(open_llava, "LLaVA CC3M, LLaVA-Instruct, ALLaVA: conversations", _WRITTEN),
    "llava_grounding": Format(
        open_llava_grounding, "LLaVA-Grounding: conversations with grounded phrases", _WRITTEN
    ),
    "lvis": Format(
        open_lvis,
        "LVIS, PACO: instances of many classes, with the classes that were checked in each image",
        _WRITTEN,
    ),
    "nyu": Format(open_nyu, "NYU Depth v2: depth in metres", _WRITTEN),
    "open_images": Format(
        open_open_images, "Open Images: tables of boxes and of verified labels", _WRITTEN
    ),
    "openpsg": Format(open_openpsg, "OpenPSG: relations between panoptic segments", _WRITTEN),
    "osprey": Format(open_osprey, "Osprey: descriptions of masks", _TRUE),
    "panoptic": Format(open_panoptic, "COCO panoptic: instances and stuff", _TRUE),
    "png": Format(
        open_png, "Panoptic Narrative Grounding: narratives whose phrases have masks", _WRITTEN
    ),
    "pointqa": Format(open_pointqa, "PointQA Local and Look Twice", _WRITTEN),
    "pope": Format(open_pope, "POPE: questions about presence", _TRUE),
    "refcoco": Format(open_refcoco, "RefCOCO, RefCOCO+, RefCOCOg and RefCLEF", _TRUE),
    "saliency": Format(open_saliency, "MSRA-10K, MSRA-B, DUTS: masks of salient objects", _WRITTEN),
    "scienceqa": Format(open_scienceqa, "ScienceQA: multiple choice with lectures", _WRITTEN),
    "tgif": Format(open_tgif, "TGIF: animated GIFs with captions", _WRITTEN, videos=True),
    "vcr": Format(open_vcr, "VCR: questions about people, with answers and rationales", _WRITTEN),
    "via": Format(
        open_via, "VIA, the VGG Image Annotator: projects and annotations, JSON or CSV", _WRITTEN
    ),
    "video_folder": Format(
        open_video_folder,
        "a folder of videos with captions and questions in JSON lines or CSV",
        _OWN,
        videos=True,
    ),
    "visual7w": Format(open_visual7w, "Visual7W: telling and pointing questions", _WRITTEN),
    "visual_genome": Format(
        open_visual_genome,
        "Visual Genome: objects, attributes, relations, regions, questions",
        _TRUE,
    ),
    "voc": Format(open_voc, "Pascal VOC: XML, and other files in this format", _TRUE),
    "voc_segmentation": Format(
        open_voc_segmentation, "Pascal VOC: class and instance segmentation", _WRITTEN
    ),
    "vqa": Format(open_vqa, "VQAv2 and OK-VQA: questions with ten answers", _OWN),
    "vsr": Format(open_vsr, "VSR: statements about spatial relations", _TRUE),
    "yolo": Format(open_yolo, "YOLO: rows of boxes, turned boxes, polygons or keypoints", _OWN),
    "scenes": Format(
        _open_scenes, "drawn scenes; the path is a split: train, val, testA, testB or test", _OWN
    ),
    "scenes_video": Format(
        open_scenes_video,
        "drawn videos with moving instances; the path is a split, as for `scenes`",
        _OWN,
        videos=True,
    ),
}
"""All formats by name."""


RULE_OPTIONS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "pink": {"visual_genome": {"exhaustive": "true"}}
}
"""Default options by rule set and format; options of the specification override them.

Pink treats the annotated objects of Visual Genome as exhaustive (section 3.2).
"""


def open_source(spec: str, *, rules: str = "deixis") -> OpenedSource:
    """Open ``FORMAT:PATH[,option=value…]``.

    Every format takes ``name`` (the prefix of the sample names), ``orientation`` (``auto``, ``raw``
    or ``upright``) and ``sizes`` (``declared``, ``scaled`` or ``file``); the other options depend on
    the format. Default options of the rule set (see `RULE_OPTIONS`) are added to the specification
    of the returned source.

    Args:
        spec: The specification.
        rules: The name of the rule set that the samples are for.

    Raises:
        RecipeError: The format or an option is unknown, or a value is of the wrong type.
        AnnotationError: The files are missing.
    """
    form, found, rest = spec.partition(":")
    if not found or form not in FORMATS:
        raise RecipeError(
            f"source {spec!r}: expected FORMAT:PATH with a format of {sorted(FORMATS)}"
        )
    path_text, *pairs = rest.split(",")
    if not path_text:
        raise RecipeError(f"source {spec!r}: expected a path after {form}:")
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not value:
            raise RecipeError(f"source {spec!r}: expected option=value, got {pair!r}")
        options[key] = value
    for key, value in RULE_OPTIONS.get(rules, {}).get(form, {}).items():
        if key not in options:
            options[key] = value
            spec = f"{spec},{key}={value}"
    orientation = options.pop("orientation", "auto")
    sizes = options.pop("sizes", "declared")
    opener = FORMATS[form].open
    if form == "scenes":
        options = _scene_options(spec, options, path_text)
        path = Path()
    else:
        path = Path(path_text)
        options = _typed(spec, opener, options)
    source = opener(path, **options)
    root = getattr(source, "images", None)
    return OpenedSource(
        source,
        spec,
        Path(root) if root is not None else Path(),
        orientation,
        videos=FORMATS[form].videos,
        sizes=sizes,
    )


def _scene_options(spec: str, options: Mapping[str, str], split: str) -> dict[str, Any]:
    made: dict[str, Any] = {"split": split}
    for key, value in options.items():
        if key in {"count", "seed"}:
            made[key] = _number(spec, key, value)
        elif key in {"name", "level"}:
            made[key] = value
        else:
            raise RecipeError(f"source {spec!r}: scenes take count, seed, level and name")
    return made


def _typed(spec: str, opener: Callable[..., Source], options: Mapping[str, str]) -> dict[str, Any]:
    known = inspect.signature(opener).parameters
    made: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known or known[key].kind is not inspect.Parameter.KEYWORD_ONLY:
            names = [
                name for name, one in known.items() if one.kind is inspect.Parameter.KEYWORD_ONLY
            ]
            raise RecipeError(f"source {spec!r}: option {key!r}: expected one of {names}")
        default = known[key].default
        if isinstance(default, bool):
            if value not in {"true", "false"}:
                raise RecipeError(f"source {spec!r}: {key}: expected true or false")
            made[key] = value == "true"
        elif isinstance(default, int):
            made[key] = _number(spec, key, value)
        elif isinstance(default, float):
            made[key] = _share(spec, key, value)
        elif "Path" in str(known[key].annotation):
            made[key] = Path(value)
        else:
            made[key] = value
    return made


def _number(spec: str, key: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise RecipeError(f"source {spec!r}: {key}: expected a whole number, got {value!r}")
    return int(value)


def _share(spec: str, key: str, value: str) -> float:
    if not _DECIMAL.fullmatch(value):
        raise RecipeError(f"source {spec!r}: {key}: expected a number such as 0.5, got {value!r}")
    return float(value)


def refuse_videos(sources: Iterable[OpenedSource], what: str) -> None:
    """Raise an error if a source has videos; ``what`` names the user of the sources in the message.

    Raises:
        RecipeError: A source has videos.
    """
    for one in sources:
        if one.videos:
            raise RecipeError(f"source {one.spec!r} has videos, but {what} is for images")


def named_apart(sources: list[OpenedSource]) -> list[OpenedSource]:
    """Return the sources with unique names: the second ``coco`` becomes ``coco-2``."""
    seen: dict[str, int] = {}
    made = []
    for one in sources:
        name = one.source.name
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            source: Any = replace(one.source, name=f"{name}-{seen[name]}")  # type: ignore[type-var]
            made.append(replace(one, source=source))
        else:
            made.append(one)
    return made
