"""gRefCOCO: expressions for one annotation of an image, several, or none (GRES, section 3).

The refs are ``grefs(unc).json`` beside COCO's ``instances.json``, in RefCOCO's format with lists: an
``ann_id`` of several numbers refers to all of these annotations, and ``[-1]`` (with ``no_target``) means
no target. An expression without a target has no instances and is used for denials. The format
``refcoco`` (`deixis.data.sources.refcoco`) has the same reader and opens these files too.

Irregularities: an annotation that a ref names twice counts once (``target_named_twice``); a ref with an
invalid annotation is left out, since its targets would be incomplete.

Tested on files written by hand to the published format.
"""

from pathlib import Path

from deixis.data.sources.refcoco import RefCoco, open_refcoco
from deixis.errors import AnnotationError

_NAME = "grefs"


def open_grefcoco(
    path: Path,
    *,
    name: str = "grefcoco",
    split: str = "",
    family: str = "location",
    instances: Path | None = None,
    images: Path | None = None,
    wording: str = "raw",
) -> RefCoco:
    """Open a folder such as ``grefcoco``, or take a file of refs.

    Args:
        path: The folder, with ``grefs(unc).json`` and ``instances.json``; or the file.
        name: Prefix of the sample names.
        split: ``train``, ``val``, ``test``, ``testA``, ``testB``, ``testC``, or ``all``.
        family: The kind of expression: ``location``, ``appearance`` or ``long``.
        instances: The instances, if they are not beside the refs.
        images: The folder of the images, if it is neither ``../images/mscoco/images/train2014``
            nor ``images``.
        wording: ``raw`` or ``sent``.

    Raises:
        AnnotationError: No such file exists, there are several, or an option has to say
            which.
    """
    file = path
    if path.is_dir():
        found = sorted(path.glob(f"{_NAME}*.json"))
        if len(found) != 1:
            names = [one.name for one in found]
            raise AnnotationError(f"{path}: expected one file {_NAME}(unc).json, found {names}")
        (file,) = found
    elif not path.is_file():
        raise AnnotationError(f"{path}: does not exist, expected a folder or file of refs")
    return open_refcoco(
        file,
        name=name,
        split=split,
        family=family,
        instances=instances,
        images=images,
        wording=wording,
    )
