"""The predictor: from a question to an answer."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deixis.errors import GeometryError, ModelError, PromptError
from deixis.geometry import Box, ImageSize, Letterbox, Point, Scribble, check_pixels
from deixis.inference.fusion import (
    BodyModel,
    Detector,
    add_bodies,
    fuse_answer,
    own_boxes,
    read_strategy,
)
from deixis.inference.generation import Generated, generate, pad_references
from deixis.inference.pointing_answer import FusionStrategy, PointingAnswer
from deixis.inference.second_look import SecondLook, Seen
from deixis.inference.transfer import to_processor
from deixis.models.objectives import DecodedUnits
from deixis.models.pointing import PointingVLM
from deixis.models.references import LatentReferences
from deixis.notation import Decoded, Marker, ReferenceSlot, fill, join_pieces
from deixis.processing.batch import Row, collate
from deixis.processing.build import build_processor
from deixis.processing.describer import TextEncoderTokenizer
from deixis.processing.images import read_image
from deixis.processing.tokenizer import MarkedTokenizer
from deixis.structures import (
    Conversation,
    ImageArray,
    Problem,
    QuestionPart,
    Reference,
    Turn,
    Unit,
    UnitGroup,
    UnitType,
    Video,
)

Prompt = str | Sequence[QuestionPart]
MAX_PROMPT_CHARACTERS = 32_768
MAX_NEW_TOKENS = 192
DECODED = (UnitType.BOX, UnitType.MASK)


@dataclass(frozen=True, slots=True)
class _Question:
    image: ImageArray
    size: ImageSize
    row: Row
    words: str


@dataclass(frozen=True, slots=True)
class _Looked:
    """One way to answer a question: generated, parsed and decoded.

    ``known`` are chances that concepts hold in a cell.
    """

    generated: Generated
    pieces: Sequence[Marker | str]
    parsed: Decoded
    row: int
    decoded: DecodedUnits
    known: Float[Tensor, "b cells known"] | None

    @property
    def points(self) -> bool:
        return len(self.generated.references) > 0


class Predictor:
    """A model and its processor; thread-safe as far as torch is.

    Answers do not depend on the other questions of a batch. With ``second_look``, a model that
    recognises concepts in cells uses them to check whether the image has an instance to point at
    (see `SecondLook`).

    Args:
        model: The composite model.
        tokenizer: Its tokenizer.
        name: Name of the model in records.
        second_look: See above.
        describer: Tokenizer of the text encoder that reads descriptions of regions.
        detector: Asked for boxes when an answer is fused (see `ask`).
        pose: Finds the keypoints that references ask for; only for models without a decoder for
            keypoints.

    Raises:
        ModelError: The model decodes keypoints itself, and a pose model is given.
    """

    def __init__(
        self,
        model: PointingVLM,
        tokenizer: MarkedTokenizer,
        *,
        name: str = "",
        second_look: bool = True,
        describer: TextEncoderTokenizer | None = None,
        detector: Detector | None = None,
        pose: BodyModel | None = None,
    ) -> None:
        if pose is not None and UnitType.KEYPOINT in model.units:
            raise ModelError(f"model {name!r} decodes keypoints itself: expected no pose model")
        self.model = model
        self.detector = detector
        self.pose = pose
        self.processor = build_processor(model.config, tokenizer, describer)
        self.name = name
        self.second_look = SecondLook(self.processor.concepts if second_look else {})

    @property
    def decoding(self) -> str:
        """How answers are generated, for records."""
        checked = ", presence checked by concepts" if self.second_look.words else ""
        dtype = self.model.dtype
        half = "" if dtype == torch.float32 else f", in {str(dtype).removeprefix('torch.')}"
        return f"greedy, at most {MAX_NEW_TOKENS} tokens{checked}{half}"

    def ask(
        self,
        image: Any,
        prompt: Prompt,
        *,
        units: str | Sequence[str] | None = None,
        fuse: str | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> PointingAnswer:
        """Ask one question about one image.

        Args:
            image: A path, bytes, a PIL image or an RGB array [height, width, 3]; or a `Video`, for
                models that take them.
            prompt: Text, or text and regions in the order of the question.
            units: Decode every reference to these unit types, whatever the answer names.
            fuse: A strategy of `deixis.inference.fusion.fuse_boxes`; None does not fuse. The box
                of each reference is fused from the boxes of the box decoder, its mask and the
                detector, as far as the model has them; the answer's ``fusion`` records them.
            max_new_tokens: Length limit of the answer.

        Raises:
            ImageError: The image cannot be read.
            PromptError: The question is empty, a region does not lie on the image, or a unit type
                or the strategy is unknown.
            GeometryError: A region looks like fractions of the image's sides; regions are in
                pixels, and `deixis.geometry.from_fractions` converts fractions.
        """
        asked = [(image, prompt)]
        return self.ask_many(asked, units=units, fuse=fuse, max_new_tokens=max_new_tokens)[0]

    def ask_many(
        self,
        questions: Iterable[tuple[Any, Prompt]],
        *,
        units: str | Sequence[str] | None = None,
        fuse: str | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        batch_size: int = 32,
    ) -> list[PointingAnswer]:
        """Ask several questions; see `ask`."""
        posed = () if self.pose is None else (UnitType.KEYPOINT,)
        wanted = _unit_types(units, (*DECODED, *self.model.units, *posed))
        strategy = None if fuse is None else read_strategy(fuse)
        ready = [self._question(image, prompt) for image, prompt in questions]
        answers: list[PointingAnswer] = []
        for start in range(0, len(ready), batch_size):
            some = ready[start : start + batch_size]
            answers += self._answer(some, wanted, max_new_tokens, strategy)
        return answers

    def _question(self, image: Any, prompt: Prompt) -> _Question:
        parts = _parts(prompt)
        if isinstance(image, Video):
            frames = self.processor.frames(image)
            array = frames[(len(frames) - 1) // 2]
        else:
            array = read_image(image).array
        size = ImageSize(*array.shape[:2])
        for part in parts:
            if isinstance(part, Box | Point | Scribble):
                check_pixels(part, size)
        source = Video(lambda: frames) if isinstance(image, Video) else array
        row = self.processor.row(Conversation("question", source, size, (Turn(parts),)))
        words = " ".join(part for part in parts if isinstance(part, str))
        return _Question(array, size, row, words)

    def _answer(
        self,
        questions: list[_Question],
        wanted: tuple[str, ...] | None,
        limit: int,
        strategy: FusionStrategy | None,
    ) -> list[PointingAnswer]:
        # fusion and the pose model need boxes that no reference asks for
        beside = strategy is not None or self.pose is not None
        looked = self._look(questions, limit, wanted, beside=beside)
        doubtful = [
            index
            for index, one in enumerate(looked)
            if self.second_look.needed(points=one.points, runner_up=one.generated.runner_up[1])
        ]
        if doubtful:
            others = [looked[index].generated.runner_up[0] for index in doubtful]
            asked = [questions[index] for index in doubtful]
            again = self._look(asked, limit, wanted, others, beside=beside)
            for index, other in zip(doubtful, again, strict=True):
                looked[index] = self._believed(questions[index], looked[index], other)
        return [
            self._read(question, one, wanted, strategy)
            for question, one in zip(questions, looked, strict=True)
        ]

    @torch.inference_mode()
    def _look(
        self,
        questions: list[_Question],
        limit: int,
        units: tuple[str, ...] | None,
        begin: Sequence[int] | None = None,
        *,
        beside: bool = False,
    ) -> list[_Looked]:
        """Generate answers and decode their references; ``begin`` gives the first tokens.

        With ``beside``, every reference is also decoded to a box and a mask.
        """
        tokenizer = self.processor.tokenizer
        rows = [question.row for question in questions]
        batch = collate(rows, pad_id=tokenizer.pad_id, left=True).to(self.model.device)
        generated, seen = generate(
            self.model,
            batch,
            end_id=tokenizer.end_id,
            max_new_tokens=limit,
            begin=None if begin is None else torch.tensor(begin, device=self.model.device),
        )
        states, filled = pad_references(generated)
        turns = torch.ones_like(filled, dtype=torch.long)
        pieces = [self.processor.tokenizer.decode_pieces(one.ids) for one in generated]
        parsed = [
            self.processor.notation.decode(each, question.size)
            for each, question in zip(pieces, questions, strict=True)
        ]
        wanted = self._wanted(parsed, filled, units, beside=beside)
        decoded = self.model.decode(LatentReferences(states, filled, turns), seen, wanted=wanted)
        known = self.model.recognise(seen) if self.second_look.words else None
        decoded, known = to_processor((decoded, known))
        answers = zip(generated, pieces, parsed, strict=True)
        return [_Looked(*answer, row, decoded, known) for row, answer in enumerate(answers)]

    def _wanted(
        self,
        parsed: Sequence[Decoded],
        filled: Bool[Tensor, "b most"],
        units: tuple[str, ...] | None,
        *,
        beside: bool = False,
    ) -> dict[str, Bool[Tensor, "b most"]]:
        """Which references need which decoder, by unit type."""
        wanted = {unit: torch.zeros_like(filled) for unit in self.model.units}
        for row, answer in enumerate(parsed):
            for slot in answer.slots:
                for unit in wanted.keys() & set(units or slot.unit_types):
                    wanted[unit][row, slot.position] = True
        if beside:
            for unit in wanted.keys() & set(DECODED):
                wanted[unit] |= filled & self._fitting(unit, filled)
        # units of an answer that asks for too many are a problem of that answer (see `_read`)
        wanted = {unit: asked & self._fitting(unit, asked) for unit, asked in wanted.items()}
        first = self.model.anchored_unit
        if self.second_look.words and first is not None:
            # the second look judges an answer by the cells that its references attend to
            wanted[first] |= filled
        return wanted

    def _fitting(self, unit: str, asked: Bool[Tensor, "b most"]) -> Bool[Tensor, "b 1"]:
        """Which answers ask a decoder for at most as many units as it has queries."""
        counts, queries = asked.sum(1, keepdim=True), self.model.capacity(unit)
        return counts <= (asked.shape[1] if queries is None else queries)

    def _overflows(self, slots: Sequence[ReferenceSlot]) -> Iterator[Problem]:
        counts = Counter(name for slot in slots for name in slot.unit_types)
        for name, count in counts.items():
            queries = self.model.capacity(name)
            if queries is not None and count > queries:
                message = (
                    f"an answer asks for {count} units of type {name}, "
                    f"their decoder has {queries} queries"
                )
                yield Problem("too_many_units", message)

    def _believed(self, question: _Question, first: _Looked, other: _Looked) -> _Looked:
        """The likelier of an answer that points and one that does not; else the first."""
        if first.points == other.points:
            return first
        chance = first.generated.runner_up[1]
        pointing, denying = (first, other) if first.points else (other, first)
        believes = self.second_look.believes(
            question.words,
            pointing=1 - chance if first.points else chance,
            seen=self._seen(question, pointing),
        )
        return pointing if believes else denying

    def _seen(self, question: _Question, looked: _Looked) -> list[Seen]:
        """Evidence at the cell that each reference points at."""
        if looked.known is None:
            return []
        letterbox = self.processor.letterbox(question.size)
        seen = []
        for slot in looked.parsed.slots:
            attended = looked.decoded.attended(looked.row, slot.position)
            if attended is None:
                continue
            anchors, place = attended
            words = self.second_look.concepts(looked.parsed.text.phrases[slot.phrase_index].text)
            elected = anchors.elected[looked.row, place]
            centre = anchors.centres[looked.row, place].double().numpy()
            x, y = letterbox.invert_points(centre[None] * letterbox.canvas)[0].tolist()
            seen.append(
                Seen(
                    float(looked.known[looked.row, elected, list(words)].min()) if words else None,
                    (x / question.size.width, y / question.size.height),
                )
            )
        return seen

    def _read(
        self,
        question: _Question,
        looked: _Looked,
        wanted: tuple[str, ...] | None,
        strategy: FusionStrategy | None,
    ) -> PointingAnswer:
        processor, size, parsed = self.processor, question.size, looked.parsed
        placer = _Placer(looked.decoded, looked.row, processor.letterbox(size))
        if wanted is not None:
            parsed = retype(parsed, wanted)
        units = [
            tuple(placer.unit(slot.position, name) for name in slot.unit_types)
            for slot in parsed.slots
        ]
        scores = [placer.score(slot.position, slot.unit_types) for slot in parsed.slots]
        grounded = fill(parsed, units, scores)
        answer = PointingAnswer(
            grounded,
            size,
            join_pieces(looked.pieces, processor.notation.spelling),
            (*parsed.problems, *self._overflows(parsed.slots), *placer.problems),
            looked.generated.finish_reason,
            question.image,
        )
        if strategy is not None:
            boxes = own_boxes(grounded, parsed.slots, placer, UnitType.BOX)
            answer = fuse_answer(answer, boxes, strategy, self.detector)
        if self.pose is not None:
            boxes = own_boxes(grounded, parsed.slots, placer, UnitType.KEYPOINT)
            answer = add_bodies(answer, boxes, self.pose) if boxes else answer
        return answer


def retype(decoded: Decoded, unit_types: tuple[str, ...]) -> Decoded:
    """Replace the unit types that the model named, for every reference that has a latent."""
    wanted = {(s.phrase_index, s.group_index, s.reference_index): s for s in decoded.slots}
    phrases = []
    for at, phrase in enumerate(decoded.text.phrases):
        groups = []
        for number, group in enumerate(phrase.groups):
            mine = [key for key in wanted if key[:2] == (at, number)]
            if len(mine) != len(group.references):
                groups.append(group)
                continue
            empty = Reference((None,) * len(unit_types))
            groups.append(UnitGroup(unit_types, tuple(empty for _ in group.references)))
        phrases.append(replace(phrase, groups=tuple(groups)))
    slots = tuple(replace(slot, unit_types=unit_types, first_unit=0) for slot in wanted.values())
    return replace(decoded, text=replace(decoded.text, phrases=tuple(phrases)), slots=slots)


class _Placer:
    """Units of one row, converted from the canvas to source pixels."""

    def __init__(self, decoded: DecodedUnits, row: int, letterbox: Letterbox) -> None:
        self.decoded = decoded
        self.row = row
        self.letterbox = letterbox
        self.problems: list[Problem] = []

    def unit(self, reference: int, name: str) -> Unit | None:
        """Decode a reference as a unit type; None, with a problem, if that fails."""
        try:
            return self._place(reference, name)
        except GeometryError as error:
            self.problems.append(Problem("unit_unsound", f"reference {reference}: {error}"))
            return None

    def attempt(self, reference: int, name: str) -> Unit | None:
        """Decode a reference as a unit type that it does not ask for; None if that fails."""
        try:
            return self._place(reference, name)
        except GeometryError:
            return None

    def chance(self, reference: int, name: str) -> float | None:
        """The chance that a unit is right; None without an estimate."""
        logit = self.decoded.quality(name, self.row, reference)
        return None if logit is None else float(logit.sigmoid())

    def score(self, reference: int, names: Sequence[str]) -> float | None:
        """Mean chance of being right of the units that a reference was decoded to."""
        decoded = [name for name in self.decoded.units if name in names]
        each = [self.decoded.quality(name, self.row, reference) for name in decoded]
        logits = [logit for logit in each if logit is not None]
        return float(torch.stack(logits).sigmoid().mean()) if logits else None

    def _place(self, reference: int, name: str) -> Unit | None:
        return self.decoded.to_unit(name, self.row, reference, self.letterbox)


def _unit_types(units: str | Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...] | None:
    if units is None:
        return None
    names = tuple(units.split(",")) if isinstance(units, str) else tuple(units)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        choices = list(dict.fromkeys(str(name) for name in known))
        raise PromptError(f"unit types {list(names)}: expected some of {choices}")
    return names


def _parts(prompt: Prompt) -> tuple[QuestionPart, ...]:
    parts = (prompt,) if isinstance(prompt, str) else tuple(prompt)
    length = sum(len(part) for part in parts if isinstance(part, str))
    if length > MAX_PROMPT_CHARACTERS:
        raise PromptError(
            f"prompt has {length} characters; expected at most {MAX_PROMPT_CHARACTERS}"
        )
    return parts
