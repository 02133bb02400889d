from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model
from torch import nn
from transformers import DynamicCache
from whole_models import WHOLES

from deixis.batch import Batch
from deixis.errors import PromptError
from deixis.geometry import Box, ImageSize, Mask
from deixis.inference import Predictor, generate
from deixis.inference.generation import Generated
from deixis.models import positions
from deixis.models.pointing import PointingVLM, training_attention
from deixis.models.references import route_references
from deixis.notation import Marker
from deixis.processing.batch import collate
from deixis.structures import Conversation, GroundedPhrase, GroundedText, Reference, Turn, UnitGroup

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
SIZE = ImageSize(40, 80)
BOX = Box(10, 10, 30, 30)
MASK = Mask.from_box(BOX, SIZE)


def predictor() -> Predictor:
    model, processor = tiny_model()
    return Predictor(model, processor.tokenizer)


def question(text: str) -> Conversation:
    return Conversation("q", IMAGE, SIZE, (Turn((text,)),))


def test_cached_generation_equals_uncached() -> None:
    model, processor = tiny_model()
    rows = [processor.row(question(text)) for text in ("Where is it?", "Segment every star.")]
    batch = collate(rows, pad_id=processor.tokenizer.pad_id, left=True)
    end_id = processor.tokenizer.end_id
    cached, _ = generate(model, batch, end_id=end_id, max_new_tokens=24)
    plain, _ = generate(model, batch, end_id=end_id, max_new_tokens=24, cached=False)
    for first, second in zip(cached, plain, strict=True):
        assert first.ids == second.ids
        assert torch.allclose(first.references, second.references, atol=1e-4)


def test_a_segmenter_gets_the_images_in_its_own_frame(tmp_path: Path) -> None:
    model, processor = WHOLES["segmenter and location"].made(tmp_path)
    rows = [processor.row(question("Where is it?"))]
    batch = collate(rows, pad_id=processor.tokenizer.pad_id, left=True)
    _, seen = generate(model, batch, end_id=processor.tokenizer.end_id, max_new_tokens=2)
    assert seen.framed is not None


@contextmanager
def forced(model: PointingVLM, *answers: list[int]) -> Iterator[None]:
    """Make the head predict the next token of each row's answer, whatever its input."""
    written = iter(list(zip(*answers, strict=True)))

    def name_next(_: nn.Module, __: tuple[torch.Tensor, ...], logits: torch.Tensor) -> torch.Tensor:
        chosen = torch.tensor(next(written)).view(-1, *[1] * (logits.dim() - 1))
        return torch.zeros_like(logits).scatter(-1, chosen, 1.0)

    hook = model.language_model.get_output_embeddings().register_forward_hook(name_next)
    try:
        yield
    finally:
        hook.remove()


def forced_generation(
    model: PointingVLM, batch: Batch, answer: list[int], *, cached: bool
) -> Generated:
    with forced(model, answer):
        generated, _ = generate(
            model, batch, end_id=answer[-1], max_new_tokens=len(answer), cached=cached
        )
    return generated[0]


@pytest.mark.parametrize("offset", ["at", "prev"])
def test_generated_states_equal_those_of_training_with_and_without_a_cache(offset: str) -> None:
    """An answer gives the same boxes in a training pass and generated token by token."""
    phrase = GroundedPhrase("it", 0, 2, (UnitGroup(("box", "mask"), (Reference((BOX, MASK)),)),))
    truth = GroundedText("it", (phrase,))
    model, processor = tiny_model(notation="tokens", offset=offset)
    tokenizer = processor.tokenizer
    asked = Conversation("q", IMAGE, SIZE, (Turn(("Where?",)),))
    told = Conversation("q", IMAGE, SIZE, (Turn(("Where?",), truth),))
    whole = processor.row(told)
    taught = collate([whole], pad_id=tokenizer.pad_id)
    with torch.no_grad():
        embedded = model.embed(taught.input_ids, model.see(taught.pixel_values), taught.regions)
        attention = training_attention(taught.turns, taught.independent)
        hidden = model.read(embedded, taught.positions, attention)
    ids = torch.tensor(model.config.reference_ids)
    forced = route_references(
        hidden, torch.isin(taught.input_ids, ids), taught.turns, offset=model.config.offset
    )
    assert len(forced) == 2
    batch = collate([processor.row(asked)], pad_id=tokenizer.pad_id, left=True)
    answer = taught.input_ids[0, batch.input_ids.shape[1] :].tolist()
    assert answer[-1] == tokenizer.end_id
    for cached in (True, False):
        generated = forced_generation(model, batch, answer, cached=cached)
        assert generated.ids == tuple(answer[:-1])
        assert generated.finish_reason == "stop"
        assert torch.allclose(generated.references, forced.states[0], atol=1e-5)
    other = route_references(
        hidden,
        torch.isin(taught.input_ids, ids),
        taught.turns,
        offset="at" if offset == "prev" else "prev",
    )
    assert not torch.allclose(other.states, forced.states, atol=1e-2)


def test_an_answer_does_not_depend_on_its_neighbours() -> None:
    model, processor = tiny_model()
    texts = ("it", "Where is the red circle on the left?", "Segment every star.")
    rows = [processor.row(question(text)) for text in texts]
    tokenizer = processor.tokenizer

    def answers(some: list[int]) -> list[tuple[int, ...]]:
        batch = collate([rows[i] for i in some], pad_id=tokenizer.pad_id, left=True)
        return [
            g.ids for g in generate(model, batch, end_id=tokenizer.end_id, max_new_tokens=16)[0]
        ]

    alone = [answers([index])[0] for index in range(3)]
    assert answers([0, 1, 2]) == alone
    assert answers([2, 0, 1]) == [alone[2], alone[0], alone[1]]


def test_states_of_generated_references_equal_teacher_forced_ones() -> None:
    """Run an answer with references as in training and with the cache."""
    model, processor = tiny_model()
    box = Box(10, 10, 30, 30)
    phrase = GroundedPhrase(
        "it", 0, 2, (UnitGroup(("box",), (Reference((box,)), Reference((box,)))),)
    )
    truth = GroundedText("it", (phrase,))
    row = processor.row(Conversation("q", IMAGE, SIZE, (Turn(("Where?",), truth),)))
    batch = collate([row], pad_id=processor.tokenizer.pad_id)
    with torch.no_grad():
        seen = model.see(batch.pixel_values)
        embedded = model.embed(batch.input_ids, seen, batch.regions)
        whole = model.read(embedded, batch.positions, batch.turns >= 0)
        cache = DynamicCache(config=model.config.text_config)
        steps = [
            model.read(
                embedded[:, i : i + 1],
                batch.positions[:, i : i + 1],
                torch.ones(1, i + 1, dtype=torch.bool),
                cache=cache,
            )
            for i in range(embedded.shape[1])
        ]
    marked = batch.input_ids[0] == processor.tokenizer.marker_ids[Marker.REFERENCE]
    assert int(marked.sum()) == 2
    assert torch.allclose(torch.cat(steps, 1)[0][marked], whole[0][marked], atol=1e-5)


def test_training_works_after_inference() -> None:
    positions._sine_table.cache_clear()
    positions._centre_table.cache_clear()
    model, processor = tiny_model()
    Predictor(model, processor.tokenizer).ask(IMAGE, "Where?", max_new_tokens=2)
    features = model.see(torch.zeros(1, 3, 64, 64))
    features.maps.cells.sum().backward()
    assert model.get_parameter("vision_encoder.stem.weight").grad is not None


@pytest.mark.parametrize("cached", [True, False])
def test_each_row_records_whether_it_reached_the_length_limit(*, cached: bool) -> None:
    """A row that ends exactly at the length limit has ended."""
    model, processor = tiny_model()
    tokenizer = processor.tokenizer
    rows = [processor.row(question("Where?"))] * 3
    batch = collate(rows, pad_id=tokenizer.pad_id, left=True)
    word, end = tokenizer.encode_text("red")[0], tokenizer.end_id
    with forced(model, [word, end, word, word], [word] * 4, [word] * 3 + [end]):
        generated, _ = generate(model, batch, end_id=end, max_new_tokens=4, cached=cached)
    assert [one.ids for one in generated] == [(word,), (word,) * 4, (word,) * 3]
    assert [one.finish_reason for one in generated] == ["stop", "length", "stop"]


@pytest.mark.parametrize(("ends", "reason"), [(True, "stop"), (False, "length")])
def test_an_answer_records_whether_it_reached_the_length_limit(*, ends: bool, reason: str) -> None:
    asked = predictor()
    tokenizer = asked.processor.tokenizer
    word, end = tokenizer.encode_text("red")[0], tokenizer.end_id
    with forced(asked.model, [word, word, end if ends else word]):
        answer = asked.ask(IMAGE, "Where?", max_new_tokens=3)
    assert answer.finish_reason == reason
    assert answer.to_dict()["finish_reason"] == reason
    assert answer.size == SIZE


def test_unknown_unit_types_and_oversized_prompts_are_refused() -> None:
    ask = predictor().ask
    with pytest.raises(PromptError, match="expected some of"):
        ask(IMAGE, "Where?", units="depth")
    with pytest.raises(PromptError, match="expected at most"):
        ask(IMAGE, "x" * 40_000)
    with pytest.raises(PromptError, match="a question is empty"):
        ask(IMAGE, "  ")
