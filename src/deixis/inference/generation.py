"""Greedy generation that keeps the hidden state of every reference it writes."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from deixis.batch import Batch
from deixis.models.pointing import PointingVLM, SeenImages


@dataclass(frozen=True, slots=True)
class Generated:
    """One generated answer.

    ``references`` are hidden states of the reference tokens, in order (see `Offset`).
    ``finish_reason`` is ``stop`` or ``length``. ``runner_up`` is the second likeliest first token
    and its probability.
    """

    ids: tuple[int, ...]
    references: Float[Tensor, "n d"]
    finish_reason: str
    runner_up: tuple[int, float]


@torch.inference_mode()
def generate(
    model: PointingVLM,
    batch: Batch,
    *,
    end_id: int,
    max_new_tokens: int = 192,
    cached: bool = True,
    begin: Int[Tensor, " b"] | None = None,
) -> tuple[list[Generated], SeenImages]:
    """Continue every row of a left-padded batch until ``end_id``.

    With the offset ``at``, the state of a reference is known one step after its token is chosen;
    with ``prev`` it is the state that the token is chosen from. Without ``cached`` each step reads
    the whole sequence again; the result is the same. ``begin`` gives the first token of each row.
    """
    seen = model.see(batch.pixel_values, batch.framed_pixels, batch.frames)
    fed = model.embed(batch.input_ids, seen, batch.regions)
    image = batch.input_ids == model.config.marker_ids["<image>"]
    positions, mask = model.place(batch.positions, image), batch.turns >= 0
    cache = DynamicCache(config=model.config.text_config) if cached else None
    head = model.language_model.get_output_embeddings()
    embed = model.language_model.get_input_embeddings()
    rows = _Rows(len(fed), end_id, frozenset(model.config.reference_ids))
    whole, whole_positions = fed, positions
    before = model.config.offset == "prev"
    # transformers checks at every step whether a mask hides anything, which makes an accelerator wait
    padded = not (cached and bool(mask.all()))
    states = model.read(
        fed, positions, mask if padded else None, cache=cache, seen=seen, image=image
    )
    while True:
        hidden = states[:, -1]
        if not before:
            rows.note_states(hidden)
        if rows.done or rows.length == max_new_tokens:
            break
        logits = head(hidden)
        chosen = logits.argmax(-1)
        if rows.length == 0:
            rows.note_runners_up(logits.float())
            chosen = chosen if begin is None else begin
        rows.append(chosen)
        if before:
            rows.note_states(hidden)
        fed = embed(chosen)[:, None]
        positions = positions[..., -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        if cached:
            # generated tokens are text
            states = model.read(fed, positions, mask if padded else None, cache=cache)
            continue
        image = torch.cat([image, image.new_zeros(len(image), 1)], dim=1)
        whole = torch.cat([whole, fed], dim=1)
        whole_positions = torch.cat([whole_positions, positions], dim=-1)
        states = model.read(whole, whole_positions, mask, seen=seen, image=image)
    return rows.finish(hidden), seen


class _Rows:
    """The tokens and states generated so far, row by row."""

    def __init__(self, count: int, end_id: int, reference_ids: frozenset[int]) -> None:
        self.end_id = end_id
        self.reference_ids = reference_ids
        self.ids: list[list[int]] = [[] for _ in range(count)]
        self.states: list[list[Tensor]] = [[] for _ in range(count)]
        self.open = [True] * count
        self.length = 0
        self.runners_up: list[tuple[int, float]] = []

    @property
    def done(self) -> bool:
        return not any(self.open)

    def append(self, chosen: Int[Tensor, " b"]) -> None:
        self.length += 1
        for row, token in enumerate(chosen.tolist()):
            if not self.open[row]:
                continue
            if token == self.end_id:
                self.open[row] = False
                continue
            self.ids[row].append(token)

    def note_runners_up(self, logits: Float[Tensor, "b v"]) -> None:
        """Keep the second likeliest first token of every row."""
        chances, tokens = (best.cpu() for best in logits.softmax(-1).topk(2))
        self.runners_up = list(zip(tokens[:, 1].tolist(), chances[:, 1].tolist(), strict=True))

    def note_states(self, hidden: Float[Tensor, "b d"]) -> None:
        """Keep states of rows whose last token is a reference."""
        for row, ids in enumerate(self.ids):
            read = self.open[row] and len(ids) == self.length and ids
            if read and ids[-1] in self.reference_ids:
                self.states[row].append(hidden[row])

    def finish(self, hidden: Float[Tensor, "b d"]) -> list[Generated]:
        """Return the answers; their states have the device and precision of ``hidden``."""
        none = hidden.new_zeros(0, hidden.shape[1])
        return [
            Generated(
                tuple(ids),
                torch.stack(states) if states else none,
                "length" if still_open else "stop",
                runner_up,
            )
            for ids, states, still_open, runner_up in zip(
                self.ids, self.states, self.open, self.runners_up, strict=True
            )
        ]


def pad_references(
    generated: list[Generated],
) -> tuple[Float[Tensor, "b most d"], Bool[Tensor, "b most"]]:
    """Pad generated references into one batch, on their device and in their precision."""
    first = generated[0].references
    most = max(*(len(one.references) for one in generated), 1)
    states = first.new_zeros(len(generated), most, first.shape[1])
    filled = first.new_zeros(len(generated), most, dtype=torch.bool)
    for row, answer in enumerate(generated):
        count = len(answer.references)
        states[row, :count] = answer.references
        filled[row, :count] = True
    return states, filled
