"""Encode conversations as rows: images on the canvas, regions as masks, turns as tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from deixis.batch import AskedUnits, Instances, TruthReader, UnitTruth
from deixis.batch.references import Truth
from deixis.errors import ImageError, PromptError
from deixis.geometry import Box, ImageSize, Letterbox, Mask, Point, Scribble
from deixis.notation import Encoded, EncodedReference, Marker, Notation, RegionForm
from deixis.processing.batch import Row, RowTruth
from deixis.processing.describer import TextEncoderTokenizer
from deixis.processing.images import letterbox_array, read_image
from deixis.processing.tokenizer import MarkedTokenizer
from deixis.processing.video import read_video
from deixis.structures import (
    IGNORE_INDEX,
    Conversation,
    Description,
    FrameArray,
    GroundedText,
    ImageArray,
    Instance,
    QuestionPart,
    Region,
    RegionType,
    Turn,
    UnitType,
    Video,
)

POINT_RADIUS = 10.0 / 336.0
"""Radius of a point prompt's disc over the canvas: 10 px at 336 (REF-VLM's public code)."""


@runtime_checkable
class ImageFrame(Protocol):
    """The frame of a decoder that encodes images itself: a square."""

    def prepare(self, image: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "3 side side"]:
        """Return the decoder's input for an RGB image."""


@runtime_checkable
class VideoForm(Protocol):
    """How a model reads videos."""

    @property
    def num_frames(self) -> int:
        """The number of frames that are read."""

    @property
    def placement(self) -> Literal["start", "end"]:
        """Whether a video is placed before or after the first question."""

    def num_tokens(self, frames: int, patches: int) -> int:
        """Return the number of tokens of ``frames`` frames."""


@dataclass(slots=True)
class _Builder:
    """Arrays of a row under construction."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    label_weights: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    regions: list[Float[np.ndarray, "rh rw"]] = field(default_factory=list)
    region_types: list[int] = field(default_factory=list)
    region_boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    region_texts: list[tuple[int, ...]] = field(default_factory=list)
    region_truth: list[tuple[tuple[float, float, float, float], bool, tuple[int, ...]]] = field(
        default_factory=list
    )
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    asks_box: list[bool] = field(default_factory=list)
    has_box: list[bool] = field(default_factory=list)
    masks: list[UInt8[np.ndarray, "mh mw"]] = field(default_factory=list)
    mask_index: list[int] = field(default_factory=list)
    has_mask: list[bool] = field(default_factory=list)
    groups: list[tuple[int, ...]] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    references: list[EncodedReference] = field(default_factory=list)

    def extend(
        self, ids: Sequence[int], *, turn: int, start: int, weight: float | None = None
    ) -> int:
        """Append tokens from rotary position ``start``; labelled where a weight is given."""
        self.ids += ids
        self.labels += ids if weight is not None else [IGNORE_INDEX] * len(ids)
        self.label_weights += [weight if weight is not None else 0.0] * len(ids)
        self.positions += range(start, start + len(ids))
        self.turns += [turn] * len(ids)
        return start + len(ids)


@dataclass(frozen=True, slots=True)
class _EncodedTurn:
    """A turn as tokens, before it has a place in a row."""

    question: list[int]
    regions: list[Region | Description]
    written: Encoded | None
    answer: list[int]

    @property
    def length(self) -> int:
        return len(self.question) + len(self.answer)


class Processor:
    """Convert conversations to model inputs; saved beside the weights.

    Args:
        tokenizer: Encodes text and markers.
        notation: How grounded phrases are written.
        canvas: Side of the square canvas, in pixels; images are centred on it.
        fill: Colour around an image, as in the training of the vision encoder.
        image_tokens: Tokens per image.
        regions: How a question represents regions of each type, by `RegionType`; a missing type is
            an error, and without ``text``, descriptions are plain words.
        pixel_grid: Side of the map from which masks are computed.
        mask_grid: Side at which masks are learned; ``pixel_grid`` by default.
        cell_grid: Side of the map that references attend to.
        concepts: Words that the model predicts from single cells.
        truth_readers: Readers that turn units into the truth of decoders, by unit type.
        image_frame: The frame of a decoder that encodes images itself.
        describer: The tokenizer of a separate text encoder for descriptions.
        video: How the model reads videos; None if it takes no videos.
        aligns: Whether the region encoder is aligned before the language model, which needs
            `RegionTruth` in rows.
    """

    def __init__(
        self,
        tokenizer: MarkedTokenizer,
        notation: Notation,
        *,
        canvas: int,
        image_tokens: int,
        regions: Mapping[str, RegionForm],
        pixel_grid: int,
        cell_grid: int,
        concepts: Sequence[str] = (),
        truth_readers: Mapping[str, TruthReader] = MappingProxyType({}),
        image_frame: ImageFrame | None = None,
        fill: tuple[int, int, int] = (127, 127, 127),
        describer: TextEncoderTokenizer | None = None,
        video: VideoForm | None = None,
        aligns: bool = False,
        mask_grid: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.notation = notation
        self.canvas = canvas
        self.fill = fill
        self.image_tokens = image_tokens
        self.regions = regions
        self.describer = describer
        self.video = video
        self.aligns = aligns
        self.pixel_grid = pixel_grid
        self.mask_grid = pixel_grid if mask_grid is None else mask_grid
        self.cell_grid = cell_grid
        self.concepts = {word: index for index, word in enumerate(concepts)}
        self.truth_readers = dict(truth_readers)
        self.image_frame = image_frame

    def letterbox(self, size: ImageSize) -> Letterbox:
        """Return the transform from an image of ``size`` to the canvas."""
        return Letterbox(size, self.canvas, self.notation.padding)

    def pixels(self, image: ImageArray, letterbox: Letterbox) -> Float[np.ndarray, "3 c c"]:
        """Place an image on the canvas; values in [-1, 1], ``fill`` around it."""
        placed = letterbox_array(image, letterbox, fill=self.fill)
        return np.ascontiguousarray(placed.transpose(2, 0, 1), dtype=np.float32) / 127.5 - 1.0

    def row(
        self,
        conversation: Conversation,
        *,
        row_tokens: int | None = None,
        instances: Sequence[Instance] = (),
    ) -> Row:
        """Encode a conversation; turns without an answer end open for generation.

        A conversation without image and size is text only: its row has an empty canvas and no image
        tokens.

        Args:
            conversation: One image or video and the turns about it.
            row_tokens: The most text tokens in the row; those of the image or video do not count.
                Turns that would exceed it are omitted and counted in ``Row.left_out``. No limit by
                default.
            instances: The annotated instances of the image; those with a mask become the truth of
                its cells.

        Raises:
            PromptError: A region lies outside the image, a turn needs an image and the conversation
                has none, or no turn fits into ``row_tokens``.
            ImageError: The image cannot be read, or is a video that the model does not take.
        """
        pictures, frames = self._pictures(conversation)
        image = pictures[(len(pictures) - 1) // 2]
        letterbox = self.letterbox(ImageSize(*image.shape[:2]))
        build = _Builder()
        shown = self._shown_tokens(frames)
        late = frames > 0 and self.video is not None and self.video.placement == "end"
        if late and conversation.independent and len(conversation.turns) > 1:
            raise PromptError(
                f"conversation {conversation.id}: this model places a video after the first "
                "question; expected turns that see one another"
            )
        prefix = [] if self.tokenizer.begin_id is None else [self.tokenizer.begin_id]
        shows = conversation.image is not None
        if shows and not late:
            prefix += shown
        shared = build.extend(prefix, turn=0, start=0)
        most = None if row_tokens is None else row_tokens + (len(shown) if shows else 0)
        position = shared
        left_out: list[int] = []
        for number, turn in enumerate(conversation.turns, start=1):
            start = shared if conversation.independent else position
            encoded = self._encode_turn(turn, letterbox, shown if late and number == 1 else ())
            if most is not None and len(build.ids) + encoded.length > most:
                left_out.append(encoded.length)
                continue
            position = self._add_turn(build, turn, encoded, number, start, letterbox)
        if left_out and len(left_out) == len(conversation.turns):
            needed = len(build.ids) + min(left_out) - (len(shown) if shows else 0)
            raise PromptError(
                f"conversation {conversation.id}: none of its {len(left_out)} turns fits into "
                f"row_tokens {row_tokens}; expected at least {needed}"
            )
        pixels = np.stack([self.pixels(picture, letterbox) for picture in pictures])
        frame = self.image_frame
        return replace(
            self._finish(
                build, pixels, self._instances(instances, letterbox), conversation.independent
            ),
            truth=self._read_truth(build, letterbox, instances),
            framed_pixels=None if frame is None else frame.prepare(torch.from_numpy(image.copy())),
            frames=frames,
            left_out=len(left_out),
            extent=_extent(letterbox),
        )

    def frames(self, video: Video, *, id_: str = "question") -> FrameArray:
        """Read the frames of a video that the model sees.

        Raises:
            ImageError: The video cannot be read, or the model takes no videos.
        """
        if self.video is None:
            raise ImageError(
                f"conversation {id_} is about a video, which this model does not take; expected "
                "an image"
            )
        return read_video(video, num_frames=self.video.num_frames).frames

    def _pictures(self, conversation: Conversation) -> tuple[list[ImageArray], int]:
        """Return the pixels of a conversation's image or frames, and the number of video frames.

        A conversation of text only has an empty canvas.
        """
        source = conversation.image
        if isinstance(source, Video):
            frames = list(self.frames(source, id_=conversation.id))
            return frames, len(frames)
        if source is not None and conversation.size is not None:
            array = source() if callable(source) else source
            return [array if isinstance(array, np.ndarray) else read_image(array).array], 0
        points = any(
            not all(isinstance(part, str) for part in turn.question)
            or (turn.answer is not None and turn.answer.phrases)
            for turn in conversation.turns
        )
        if points or source is not None or conversation.size is not None:
            raise PromptError(f"conversation {conversation.id} has no image")
        return [np.full((self.canvas, self.canvas, 3), self.fill, np.uint8)], 0

    def _shown_tokens(self, frames: int) -> list[int]:
        """Return the placeholders of an image or video, between the notation's markers."""
        ids = [self.tokenizer.marker_ids[Marker.IMAGE]] * self._picture_tokens(frames)
        opening, closing = (
            (Marker.VIDEO_OPEN, Marker.VIDEO_CLOSE)
            if frames
            else (Marker.IMAGE_OPEN, Marker.IMAGE_CLOSE)
        )
        if opening not in self.notation.spelling:
            return ids
        known = self.tokenizer.marker_ids
        return [known[opening], *ids, known[closing]]

    def _picture_tokens(self, frames: int) -> int:
        if not frames or self.video is None:
            return self.image_tokens
        return self.video.num_tokens(frames, self.image_tokens)

    def _read_truth(
        self, build: _Builder, letterbox: Letterbox, instances: Sequence[Instance]
    ) -> dict[str, UnitTruth[Truth]]:
        """Read the truth of decoders from the references that ask for their unit types."""
        read = {}
        for unit, reader in self.truth_readers.items():
            index = [at for at, one in enumerate(build.references) if unit in one.unit_types]
            if not index:
                continue
            found = [build.references[at] for at in index]
            asked = AskedUnits(
                tuple(one.units[one.unit_types.index(unit)] for one in found),
                tuple(one.units for one in found),
                torch.tensor([build.weights[at] for at in index], dtype=torch.float32),
                letterbox,
                tuple(instances),
            )
            read[unit] = UnitTruth(torch.tensor(index), reader(asked))
        return read

    def _encode_turn(
        self, turn: Turn, letterbox: Letterbox, shown: Sequence[int] = ()
    ) -> _EncodedTurn:
        question = [self.tokenizer.user_id]
        regions: list[Region | Description] = []
        for part in self._trimmed(turn.question):
            form = self._form(part)
            if form is None or (isinstance(part, str) and not isinstance(part, Description)):
                question += self.tokenizer.encode_text(str(part))
                continue
            question += self.tokenizer.encode_pieces(form.write(part, letterbox.source))
            if form.num_tokens:
                regions.append(part)
        question += [*shown, self.tokenizer.assistant_id]
        if turn.answer is None:
            return _EncodedTurn(question, regions, None, [])
        adapted = self.notation.adapt(turn.answer)
        encoded = self.notation.encode(adapted, letterbox.source)
        answer = [*self.tokenizer.encode_pieces(encoded.pieces), self.tokenizer.end_id]
        return _EncodedTurn(question, regions, encoded, answer)

    def _add_turn(
        self,
        build: _Builder,
        turn: Turn,
        encoded: _EncodedTurn,
        number: int,
        start: int,
        letterbox: Letterbox,
    ) -> int:
        for region in encoded.regions:
            self._add_region(build, region, letterbox)
            if self.aligns:
                self._add_region_truth(build, region, turn, len(encoded.regions), letterbox)
        position = build.extend(encoded.question, turn=number, start=start)
        if encoded.written is None:
            return position
        self._add_references(build, encoded.written, turn.weight, letterbox)
        return build.extend(encoded.answer, turn=number, start=position, weight=turn.weight)

    def _form(self, part: QuestionPart) -> RegionForm | None:
        """Return how a region is represented in the question; None for plain words."""
        if isinstance(part, str):
            described = isinstance(part, Description)
            return self.regions.get(RegionType.TEXT) if described else None
        kind = RegionType.of(part)
        if kind not in self.regions:
            taken = sorted(set(self.regions) - {RegionType.TEXT})
            raise PromptError(
                f"the model takes no regions of type {kind.value}; expected some of {taken}"
            )
        return self.regions[kind]

    def _add_region(
        self, build: _Builder, region: Region | Description, letterbox: Letterbox
    ) -> None:
        build.region_types.append(RegionType.of(region).number)
        if isinstance(region, Description):
            grid = self.pixel_grid
            tokens = self.describer or self.tokenizer
            build.regions.append(np.zeros((grid, grid), np.float32))
            build.region_boxes.append((0.0, 0.0, 0.0, 0.0))
            build.region_texts.append(tuple(tokens.encode_text(region)))
            return
        painted = self._painted(region, letterbox)
        build.regions.append(self._region_cells(region, painted, letterbox))
        box = region if isinstance(region, Box) else painted.to_box()
        build.region_boxes.append(_corners(self._canvas_box(box, letterbox)))
        build.region_texts.append(())

    def _add_region_truth(
        self,
        build: _Builder,
        region: Region | Description,
        turn: Turn,
        regions: int,
        letterbox: Letterbox,
    ) -> None:
        """Add box and description of a region; an answer only describes a turn's only region."""
        answer = turn.answer if regions == 1 else None
        box, words = build.region_boxes[-1], "" if answer is None else answer.text
        known = True
        if isinstance(region, Description):
            words = str(region)
            found = next(_boxes_of(answer), None) if answer is not None else None
            known = found is not None
            box = _corners(self._canvas_box(found, letterbox))
        tokens = self.describer or self.tokenizer
        build.region_truth.append((box, known, tuple(tokens.encode_text(words)) if words else ()))

    @staticmethod
    def _trimmed(question: Sequence[QuestionPart]) -> list[QuestionPart]:
        """Strip blanks at both ends, which are rare in training."""
        parts = list(question)
        if isinstance(parts[0], str) and not isinstance(parts[0], Description):
            parts[0] = parts[0].lstrip()
        if isinstance(parts[-1], str) and not isinstance(parts[-1], Description):
            parts[-1] = parts[-1].rstrip()
        return [part for part in parts if part != ""]

    def _add_references(
        self, build: _Builder, encoded: Encoded, weight: float, letterbox: Letterbox
    ) -> None:
        # references of one group with different unit types are not exchanged
        groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for reference in encoded.references:
            key = (reference.group, reference.unit_types)
            groups.setdefault(key, []).append(len(build.boxes))
            box = next((unit for unit in reference.units if isinstance(unit, Box)), None)
            mask = next((unit for unit in reference.units if isinstance(unit, Mask)), None)
            if UnitType.MASK in reference.unit_types:
                build.mask_index.append(len(build.boxes))
                build.masks.append(self._canvas_mask(mask, letterbox, grid=self.mask_grid))
            build.asks_box.append(UnitType.BOX in reference.unit_types)
            build.has_box.append(box is not None)
            build.has_mask.append(mask is not None)
            build.boxes.append(self._canvas_box(box, letterbox))
            build.weights.append(weight)
            build.references.append(reference)
        build.groups += [tuple(members) for members in groups.values()]

    def _canvas_box(
        self, box: Box | None, letterbox: Letterbox
    ) -> tuple[float, float, float, float]:
        if box is None:
            return (0.5, 0.5, 1.0, 1.0)
        scale = letterbox.scale / self.canvas
        left, top = letterbox.offset
        centre_x, centre_y = box.center
        return (
            centre_x * scale + left / self.canvas,
            centre_y * scale + top / self.canvas,
            box.width * scale,
            box.height * scale,
        )

    @staticmethod
    def _canvas_mask(
        mask: Mask | None, letterbox: Letterbox, *, grid: int
    ) -> UInt8[np.ndarray, "g g"]:
        if mask is None or mask.is_empty:
            return np.zeros((grid, grid), np.uint8)
        share = sample_mask(mask.array, letterbox, grid)
        most = float(share.max())
        # a mask that covers no cell by half takes the cells it covers most, so as not to be empty
        return (share >= (0.5 if most >= 0.5 else most / 2)).astype(np.uint8)

    def _region_cells(
        self, region: Region, painted: Mask, letterbox: Letterbox
    ) -> Float[np.ndarray, "g g"]:
        if painted.is_empty:
            raise PromptError(f"{type(region).__name__.lower()} covers no pixel of the image")
        return sample_mask(painted.array, letterbox, self.pixel_grid)

    def _painted(self, region: Region, letterbox: Letterbox) -> Mask:
        size = letterbox.source
        match region:
            case Mask():
                if region.size != size:
                    raise PromptError(f"mask of {region.size} does not fit an image of {size}")
                return region
            case Box():
                region.check_inside(size)
                return Mask.from_box(region, size)
            case Scribble():
                return region.to_mask(size)
            case Point():
                if not (0 <= region.x <= size.width and 0 <= region.y <= size.height):
                    raise PromptError(
                        f"point ({region.x}, {region.y}) lies outside an image of "
                        f"{size.width}x{size.height}"
                    )
                radius = POINT_RADIUS * self.canvas / letterbox.scale
                disc = Scribble(((region.x, region.y),), width=max(2 * radius, 1.0))
                return disc.to_mask(size)

    def _instances(self, instances: Sequence[Instance], letterbox: Letterbox) -> Instances:
        """Return the instance of each cell, and units and concepts of all instances with a mask.

        A cell shows the instance at its centre. An instance that covers no centre takes the cell
        that it covers most, unless another instance covers that cell's centre.
        """
        known = [one for one in instances if one.mask is not None and not one.crowd]
        grid, fine = self.cell_grid, self.pixel_grid
        cells = np.full((grid, grid), -1, np.int64)
        boxes = np.zeros((len(known), 4), np.float32)
        masks = np.zeros((len(known), fine, fine), np.uint8)
        concepts = np.zeros((len(known), len(self.concepts)), bool)
        height, width = letterbox.source
        left, top = letterbox.offset
        centres = (np.arange(grid) + 0.5) * letterbox.canvas / grid
        rows = np.floor((centres - top) / letterbox.scale).astype(int)
        columns = np.floor((centres - left) / letterbox.scale).astype(int)
        inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        at = np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))
        uncovered = []
        # where masks overlap, the smaller instance is assumed to be in front
        for index in sorted(range(len(known)), key=lambda i: -known[i].box.area):
            instance = known[index]
            if instance.mask is None:
                continue
            boxes[index] = self._canvas_box(instance.box, letterbox)
            masks[index] = self._canvas_mask(instance.mask, letterbox, grid=self.pixel_grid)
            words = (instance.category, *instance.attributes)
            concepts[index, [self.concepts[word] for word in words if word in self.concepts]] = True
            shown = instance.mask.array[at] & inside
            cells[shown] = index
            if not shown.any():
                uncovered.append(index)
        for index in uncovered:
            share = self._share(masks[index], grid)
            best = np.unravel_index(int(share.argmax()), share.shape)
            if share[best] and cells[best] < 0:
                cells[best] = index
        arrays = (cells.reshape(1, -1), boxes, masks, concepts)
        return Instances(*(torch.from_numpy(array) for array in arrays))

    @staticmethod
    def _share(mask: UInt8[np.ndarray, "g g"], grid: int) -> Float[np.ndarray, "grid grid"]:
        """Return the share of each of ``grid`` x ``grid`` cells that a mask covers."""
        fine = len(mask)
        if fine % grid == 0:
            counted: Int[np.ndarray, "grid grid"] = mask.reshape(
                grid, fine // grid, grid, fine // grid
            ).sum((1, 3))
            return counted.astype(np.float32)
        return sample_mask(mask, Letterbox(ImageSize(fine, fine), fine), grid)

    def _finish(
        self,
        build: _Builder,
        pixels: Float[np.ndarray, "pictures 3 c c"],
        instances: Instances,
        independent: bool,  # noqa: FBT001
    ) -> Row:
        grid, fine = self.pixel_grid, self.mask_grid
        return Row(
            pixels=pixels,
            input_ids=np.array(build.ids, np.int64),
            labels=np.array(build.labels, np.int64),
            label_weights=np.array(build.label_weights, np.float32),
            positions=np.array(build.positions, np.int64),
            turns=np.array(build.turns, np.int64),
            independent=independent,
            regions=np.stack(build.regions)
            if build.regions
            else np.zeros((0, grid, grid), np.float32),
            region_types=np.array(build.region_types, np.int64),
            region_boxes=np.array(build.region_boxes, np.float32).reshape(-1, 4),
            region_texts=tuple(build.region_texts),
            region_truth=self._region_truth(build) if self.aligns else None,
            boxes=np.array(build.boxes, np.float32).reshape(-1, 4),
            asks_box=np.array(build.asks_box, bool),
            has_box=np.array(build.has_box, bool),
            masks=np.stack(build.masks) if build.masks else np.zeros((0, fine, fine), np.uint8),
            mask_index=np.array(build.mask_index, np.int64),
            has_mask=np.array(build.has_mask, bool),
            groups=tuple(build.groups),
            weights=np.array(build.weights, np.float32),
            instances=instances,
        )

    @staticmethod
    def _region_truth(build: _Builder) -> RowTruth:
        return RowTruth(
            np.array([box for box, _, _ in build.region_truth], np.float32).reshape(-1, 4),
            np.array([known for _, known, _ in build.region_truth], bool),
            tuple(words for _, _, words in build.region_truth),
        )

    def save(self, folder: Path) -> None:
        """Write the tokenizers; sizes and notation are in the model's configuration."""
        self.tokenizer.save(folder)
        if self.describer is not None:
            self.describer.save(folder)


def _extent(letterbox: Letterbox) -> tuple[float, float, float, float]:
    """Return the box of the image on the canvas: x1 y1 x2 y2 in [0, 1]."""
    height, width = letterbox.source
    whole = letterbox.apply_boxes(np.array([[0.0, 0.0, width, height]]))[0] / letterbox.canvas
    left, top, right, bottom = whole.tolist()
    return (left, top, right, bottom)


def _corners(
    box: tuple[float, float, float, float],
) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _boxes_of(answer: GroundedText) -> Iterator[Box]:
    for phrase in answer.phrases:
        for reference in phrase.references:
            for unit in reference.units:
                if isinstance(unit, Box):
                    yield unit
                elif isinstance(unit, Mask) and not unit.is_empty:
                    yield unit.to_box()


def sample_mask(
    mask: np.ndarray, letterbox: Letterbox, grid: int
) -> Float[np.ndarray, "grid grid"]:
    """Return the share of each cell of a ``grid`` x ``grid`` canvas that a source mask covers.

    Cells are integrated exactly with a summed-area table, so thin masks are not missed; their width
    need not be a whole number of pixels.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    out = np.zeros((grid, grid), np.float32)
    if not len(rows):
        return out
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    cell = letterbox.canvas / grid / letterbox.scale
    offset_x, offset_y = (value / letterbox.scale for value in letterbox.offset)
    edges = np.arange(grid + 1) * cell
    weights_y = _overlap(edges - offset_y, top, bottom)
    weights_x = _overlap(edges - offset_x, left, right)
    part = mask[top:bottom, left:right].astype(np.float32)
    y0, y1 = _span(weights_y)
    x0, x1 = _span(weights_x)
    out[y0:y1, x0:x1] = weights_y[y0:y1] @ part @ weights_x[x0:x1].T / cell**2
    return out


def _overlap(edges: np.ndarray, low: int, high: int) -> Float[np.ndarray, "cells pixels"]:
    """Return the overlap of each cell [edges[i], edges[i+1]] with each unit pixel of [low, high)."""
    pixels = np.arange(low, high, dtype=np.float64)
    starts = np.maximum(edges[:-1, None], pixels[None])
    ends = np.minimum(edges[1:, None], pixels[None] + 1.0)
    shared: np.ndarray = np.maximum(ends - starts, 0.0)
    return shared.astype(np.float32)


def _span(weights: np.ndarray) -> tuple[int, int]:
    used = np.flatnonzero(weights.any(1))
    return int(used[0]), int(used[-1]) + 1
