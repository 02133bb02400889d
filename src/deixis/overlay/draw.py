"""Draw an answer on its image: every unit, and its words in the same colour."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from deixis.errors import ImageError
from deixis.geometry import Box, DepthMap, ImageSize, Keypoints, Mask, Point
from deixis.overlay.caption import caption_panel
from deixis.overlay.colors import PAPER, phrase_color
from deixis.overlay.depth_panel import depth_panel
from deixis.overlay.labels import Labels
from deixis.overlay.unit_shapes import Sketch, paint_mask
from deixis.overlay.view import View
from deixis.structures import Answer, GroundedPhrase, GroundedText, Unit

_MOST_NAMED = 6


def draw_answer(
    image: UInt8[np.ndarray, "height width 3"],
    answer: GroundedText | Answer,
    *,
    question: str = "",
    caption: bool = True,
    min_width: int = 512,
) -> Image.Image:
    """Return the image with an answer's boxes, masks, points, skeletons and depth on it.

    Each phrase has a colour, shared by its units, their labels and its words in the caption
    below. A label has the phrase and the model's score. A depth map stands in a panel of its
    own. Units that were not decoded are counted in a note. An answer that points at nothing gives
    the picture with its caption.

    Args:
        image: Upright pixels; the units are in its frame.
        answer: The answer to draw.
        question: Written above the answer.
        caption: Whether to write the answer's words below the picture.
        min_width: Narrower pictures are enlarged, so that thin units and labels are legible.

    Raises:
        ImageError: The answer, or one of its masks, is about an image of another size.
    """
    size = ImageSize(image.shape[0], image.shape[1])
    grounded = answer.grounded if isinstance(answer, Answer) else answer
    _check_sizes(answer, grounded, size)
    view = View.fit(size, min_width=min_width)
    picture = Image.fromarray(image)
    if view.size != picture.size:
        picture = picture.resize(view.size, Image.Resampling.BICUBIC)
    _draw_units(picture, grounded.phrases, view)
    depths = [unit for _, unit in _units(grounded.phrases) if isinstance(unit, DepthMap)]
    picture = _beside([picture, *(depth_panel(depth, view) for depth in depths)], view)
    if picture.width < min_width:
        picture = _centred(picture, min_width)
    if not caption:
        return picture
    panel = caption_panel(
        grounded,
        picture.width,
        _caption_text(picture),
        question=question,
        note=_note(answer, grounded),
    )
    return _below([picture, panel])


def _units(phrases: Sequence[GroundedPhrase]) -> list[tuple[int, Unit]]:
    return [
        (index, unit)
        for index, phrase in enumerate(phrases)
        for reference in phrase.references
        for unit in reference.units
        if unit is not None
    ]


def _check_sizes(answer: GroundedText | Answer, grounded: GroundedText, size: ImageSize) -> None:
    claimed = [answer.size] if isinstance(answer, Answer) else []
    for _, unit in _units(grounded.phrases):
        if isinstance(unit, Mask | DepthMap):
            claimed.append(unit.size)
    wrong = [other for other in claimed if other != size]
    if wrong:
        raise ImageError(
            f"image of {size.width}x{size.height} pixels: not the one that was asked about, "
            f"expected {wrong[0].width}x{wrong[0].height}"
        )


def _draw_units(picture: Image.Image, phrases: Sequence[GroundedPhrase], view: View) -> None:
    units = _units(phrases)
    # large masks first, so that a small instance on a large one keeps its colour
    masks = [(index, unit) for index, unit in units if isinstance(unit, Mask)]
    for index, mask in sorted(masks, key=lambda item: -item[1].area):
        paint_mask(picture, mask, phrase_color(index), view)
    sketch = Sketch(view)
    for index, unit in units:
        if isinstance(unit, Box):
            sketch.box(unit, phrase_color(index))
    for index, unit in units:
        if isinstance(unit, Keypoints):
            sketch.keypoints(unit, phrase_color(index))
        elif isinstance(unit, Point):
            sketch.point(unit, phrase_color(index))
    sketch.lay_on(picture)

    labels = Labels(picture, view)
    for index, phrase in enumerate(phrases):
        for reference in phrase.references:
            around = next(filter(None, (_extent(unit) for unit in reference.units)), None)
            if around is not None:
                named = len(phrase.references) <= _MOST_NAMED
                score = "" if reference.score is None else f" {reference.score:.2f}"
                labels.add(around, (phrase.text if named else "") + score, phrase_color(index))


def _extent(unit: Unit | None) -> Box | None:
    if isinstance(unit, Box):
        return unit
    if isinstance(unit, Mask):
        return None if unit.is_empty else unit.to_box()
    if isinstance(unit, Point):
        return Box(unit.x - 0.5, unit.y - 0.5, unit.x + 0.5, unit.y + 0.5)
    if isinstance(unit, Keypoints):
        seen = unit.positions[unit.visibility > 0]
        if len(seen):
            (x1, y1), (x2, y2) = seen.min(axis=0).tolist(), seen.max(axis=0).tolist()
            return Box(x1 - 0.5, y1 - 0.5, x2 + 0.5, y2 + 0.5)
    return None


def _note(answer: GroundedText | Answer, grounded: GroundedText) -> str:
    undecoded = sum(
        unit is None
        for phrase in grounded.phrases
        for ref in phrase.references
        for unit in ref.units
    )
    parts = [f"{undecoded} not decoded"] if undecoded else []
    if isinstance(answer, Answer):
        codes = list(dict.fromkeys(problem.code.replace("_", " ") for problem in answer.problems))
        parts += [f"problems: {', '.join(codes)}"] if codes else []
        parts += ["cut at the length limit"] if answer.finish_reason == "length" else []
    return "; ".join(parts)


def _caption_text(picture: Image.Image) -> int:
    return max(15, round(picture.width / 32))


def _beside(panels: list[Image.Image], view: View) -> Image.Image:
    """Join panels of one size with a thin gap: side by side, or stacked where they are wide."""
    width, height = view.size
    if len(panels) == 1:
        return panels[0]
    gap = max(2, round(view.stroke))
    if width > height * 1.8:
        return _below(panels, gap)
    joined = Image.new("RGB", (len(panels) * (width + gap) - gap, height), PAPER)
    for index, panel in enumerate(panels):
        joined.paste(panel, (index * (width + gap), 0))
    return joined


def _below(panels: list[Image.Image], gap: int = 0) -> Image.Image:
    width = max(panel.width for panel in panels)
    height = sum(panel.height for panel in panels) + gap * (len(panels) - 1)
    joined = Image.new("RGB", (width, height), PAPER)
    top = 0
    for panel in panels:
        joined.paste(panel, (0, top))
        top += panel.height + gap
    return joined


def _centred(picture: Image.Image, width: int) -> Image.Image:
    wide = Image.new("RGB", (width, picture.height), PAPER)
    wide.paste(picture, ((width - picture.width) // 2, 0))
    return wide
