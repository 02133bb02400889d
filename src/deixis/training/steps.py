"""One step of training: the losses of a batch and their gradients, piece by piece."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, distributed, nn

from deixis.batch import Batch
from deixis.models.losses.contrastive import cached_backward
from deixis.models.objectives import weighted_sum
from deixis.models.pointing import PointingOutput, PointingVLM
from deixis.models.regions.alignment import AlignmentPairs
from deixis.training.recipe import Stage


def add_gradients(
    stage: Stage,
    pieces: Sequence[Batch],
    model: PointingVLM,
    wrapped: nn.Module,
    accelerator: Accelerator,
) -> PointingOutput:
    """Accumulate the gradients of a batch in the model; return its losses without a graph.

    Args:
        stage: The stage, for its objective.
        pieces: The batch of this rank.
        model: The model.
        wrapped: The model as prepared by Accelerate for several ranks.
        accelerator: Precision and devices.
    """
    placed = [piece.to(accelerator.device) for piece in pieces]
    aligning = stage.objective == "alignment"
    if aligning:
        # both run the same collectives, since ranks may differ in their number of pieces
        align = _align_whole if len(placed) == 1 else _align_in_pieces
        return align(placed, model, accelerator)
    outputs = []
    for number, piece in enumerate(placed, start=1):
        waits = nullcontext() if number == len(placed) else accelerator.no_sync(wrapped)
        with waits:
            with accelerator.autocast():
                output: PointingOutput = wrapped(piece)
            accelerator.backward(output.loss / len(placed))
        outputs.append(output)
    return _mean(outputs)


def _mean(outputs: Sequence[PointingOutput]) -> PointingOutput:
    """Average losses and measures over the pieces that have them."""

    def merged(kind: str) -> dict[str, Tensor]:
        names = {name: None for output in outputs for name in getattr(output, kind)}
        values: dict[str, Tensor] = {}
        for name in names:
            found = [getattr(one, kind)[name] for one in outputs if name in getattr(one, kind)]
            values[name] = torch.stack([value.detach().float() for value in found]).mean()
        return values

    loss = torch.stack([output.loss.detach() for output in outputs]).mean()
    return PointingOutput(loss, merged("parts"), merged("measures"))


def _align_whole(
    pieces: Sequence[Batch], model: PointingVLM, accelerator: Accelerator
) -> PointingOutput:
    """Align with one batch, outside the wrapper that averages gradients in the backward pass.

    The loss has a collective in its backward pass. Its order among the collectives of the wrapper
    would depend on the parameters that the rows of a rank use, so ranks could deadlock.
    """
    (batch,) = pieces
    with accelerator.autocast():
        output: PointingOutput = model(batch, aligning=True)
    accelerator.backward(output.loss)
    _average_gradients(model)
    return _mean([output])


def _align_in_pieces(
    pieces: Sequence[Batch], model: PointingVLM, accelerator: Accelerator
) -> PointingOutput:
    """Align with all regions of the batch as negatives, encoding one piece at a time."""
    alignment, connector = model.aligner, model.connector
    given = [(piece.regions, model.region_truth(piece)) for piece in pieces]
    each = [alignment.pairs(regions, truth) for regions, truth in given]
    pairs = AlignmentPairs(
        *(torch.cat([getattr(one, f.name) for one in each]) for f in fields(AlignmentPairs))
    )
    tokens, width = connector.num_tokens, connector.config.width
    parts: dict[str, Tensor] = {}

    def found(number: int) -> Float[Tensor, "r kw"]:
        with accelerator.autocast():
            piece = pieces[number]
            return model.align(piece.pixel_values, given[number][0], piece.frames).flatten(1)

    def texts(number: int) -> Float[Tensor, "m w"]:
        with accelerator.autocast():
            return alignment.texts(connector, *given[number])

    def loss(features: Tensor, words: Tensor) -> Float[Tensor, ""]:
        with accelerator.autocast():
            losses = alignment.losses(features.unflatten(1, (tokens, width)), words, pairs)
        parts.update(location=losses.location, semantic=losses.semantic)
        return weighted_sum(parts, model.config.loss_weights)

    places = list(range(len(pieces)))
    total = cached_backward((found, texts), (places, places), loss)
    _average_gradients(model)
    return PointingOutput(total, {name: part.detach() for name, part in parts.items()}, {})


def _average_gradients(model: nn.Module) -> None:
    """Average gradients over ranks, as the unused wrapper would do in its backward pass."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
            parameter.grad /= distributed.get_world_size()
