import math
import os
from pathlib import Path

import pytest
import torch
from forked import run_ranks
from torch import nn

from deixis.models.losses.contrastive import SimilarityScale, cached_backward, contrastive_loss

WIDTH = 5


def features(count: int, *, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(count, WIDTH, generator=generator, dtype=dtype) for _ in range(2))
    return first.requires_grad_(), second.requires_grad_()


def written_out(first: torch.Tensor, second: torch.Tensor, scale: float) -> float:
    """The loss, one similarity after the other."""
    cosines = [
        [float(one @ other / one.norm() / other.norm()) for other in second.detach()]
        for one in first.detach()
    ]
    ways = [cosines, [list(column) for column in zip(*cosines, strict=True)]]
    total = 0.0
    for way in ways:
        for index, row in enumerate(way):
            every = sum(math.exp(scale * cosine) for cosine in row)
            total -= math.log(math.exp(scale * row[index]) / every)
    return total / (2 * len(first))


def test_the_loss_equals_a_loop_over_all_pairs() -> None:
    first, second = features(6)
    scale = SimilarityScale()
    assert scale().item() == pytest.approx(1 / 0.07)
    expected = written_out(first, second, 1 / 0.07)
    assert contrastive_loss(first, second, scale()).item() == pytest.approx(expected)
    assert contrastive_loss(second, first, scale()).item() == pytest.approx(expected)


def test_the_order_of_pairs_does_not_matter() -> None:
    first, second = features(7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    scale = torch.tensor(10.0)
    shuffled = contrastive_loss(first[order], second[order], scale)
    assert shuffled.item() == pytest.approx(contrastive_loss(first, second, scale).item())


def test_the_scale_is_bounded_and_can_decrease_again() -> None:
    scale = SimilarityScale(90.0)
    step = torch.optim.SGD(scale.parameters(), lr=1.0)
    for wanted in (1.0, 1.0, -1.0):
        step.zero_grad()
        (-wanted * scale().log()).backward()
        step.step()
        assert scale().item() <= 100 * (1 + 1e-6)
    assert scale().item() == pytest.approx(100 / math.e)


@pytest.mark.parametrize("rows_at_once", [1, 3, 8, 100])
def test_fewer_rows_at_once_change_neither_loss_nor_gradients(rows_at_once: int) -> None:
    gradients = []
    for rows in (None, rows_at_once):
        first, second = features(8)
        log_scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        contrastive_loss(first, second, log_scale.exp(), rows_at_once=rows).backward()
        gradients.append([first.grad, second.grad, log_scale.grad])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, atol=1e-12)


def test_no_pairs_give_zero_loss_and_equal_features_finite_gradients() -> None:
    first, second = features(0)
    value = contrastive_loss(first, second, torch.tensor(10.0))
    value.backward()
    assert value.item() == 0
    same = torch.ones(4, WIDTH, requires_grad=True)
    zero = torch.zeros(4, WIDTH, requires_grad=True)
    contrastive_loss(same, zero, torch.tensor(100.0)).backward()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in (same, zero))


class Sides(nn.Module):
    """Two encoders and a scale."""

    def __init__(self, dtype: torch.dtype, *, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.regions = nn.Sequential(
            nn.Linear(4, 9, dtype=dtype),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(9, WIDTH, dtype=dtype),
        )
        self.words = nn.Linear(3, WIDTH, dtype=dtype)
        self.scale = SimilarityScale()

    def loss(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(first, second, self.scale())

    def gradients(self) -> dict[str, torch.Tensor]:
        return {name: each.grad for name, each in self.named_parameters() if each.grad is not None}


def batch(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    texts = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return images.to(dtype), texts.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(3, 3), (5, 2), (1, 12)])
def test_cached_gradients_equal_those_of_the_whole_batch(
    dtype: torch.dtype, sizes: tuple[int, int]
) -> None:
    images, texts = batch(12, dtype)
    plain = Sides(dtype)
    expected = plain.loss(plain.regions(images), plain.words(texts))
    expected.backward()
    cached = Sides(dtype)
    value = cached_backward(
        (cached.regions, cached.words), (images.split(sizes[0]), texts.split(sizes[1])), cached.loss
    )
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    assert plain.gradients().keys() == cached.gradients().keys()
    assert len(plain.gradients()) == len(list(plain.parameters()))
    for name, gradient in plain.gradients().items():
        largest = 1e-6 * max(gradient.abs().max().item(), 1)
        assert torch.allclose(gradient, cached.gradients()[name], rtol=0, atol=largest), name


def test_cached_gradients_see_the_same_dropout_twice_and_leave_the_stream_as_it_was() -> None:
    images, texts = batch(12, torch.float64)
    model = Sides(torch.float64, dropout=0.5)
    torch.manual_seed(11)
    # without a second pass: pieces one by one, and one graph for all
    pieces = torch.cat([model.regions(piece) for piece in images.split(4)])
    after = torch.rand(1)
    model.loss(pieces, model.words(texts)).backward()
    expected = {name: each.clone() for name, each in model.gradients().items()}
    model.zero_grad()
    torch.manual_seed(11)
    cached_backward((model.regions, model.words), (images.split(4), texts.split(12)), model.loss)
    assert torch.equal(torch.rand(1), after)
    for name, gradient in expected.items():
        assert torch.allclose(gradient, model.gradients()[name], atol=1e-12)


@pytest.mark.parametrize("texts", ["detached", "none in a piece"])
def test_pieces_that_want_no_gradient_are_left_alone(texts: str) -> None:
    images, words = batch(6, torch.float64)
    pieces = [[images[:4], images[4:]], [words[:4], words[4:]]]
    gradients = []
    for cached in (False, True):
        model = Sides(torch.float64)

        def encode(piece: torch.Tensor, model: Sides = model) -> torch.Tensor:
            # as many texts as before, all of them in the first piece
            given = piece if texts == "detached" else words[: 6 * (len(piece) == 4)]
            read: torch.Tensor = model.words(given)
            return read.detach() if texts == "detached" else read

        if cached:
            cached_backward((model.regions, encode), pieces, model.loss)
        else:
            sides = [torch.cat([model.regions(piece) for piece in pieces[0]])]
            sides.append(torch.cat([encode(piece) for piece in pieces[1]]))
            model.loss(*sides).backward()
        gradients.append(model.gradients())
    plain, found = gradients
    assert plain.keys() == found.keys()
    assert ("words.weight" in plain) == (texts != "detached")
    for name, gradient in plain.items():
        assert torch.allclose(gradient, found[name], atol=1e-12), name


def test_similarities_are_those_of_float32_under_autocast() -> None:
    first, second = features(16, dtype=torch.float32)
    scale = torch.tensor(100.0)
    exact = contrastive_loss(first, second, scale)
    with torch.autocast("cpu", torch.bfloat16):
        found = contrastive_loss(first, second, scale)
        in_rows = contrastive_loss(first, second, scale, rows_at_once=3)
        low = contrastive_loss(first.bfloat16(), second.bfloat16(), scale)
    assert found.dtype == torch.float32
    assert found.item() == exact.item()
    assert in_rows.item() == pytest.approx(exact.item(), rel=1e-6)
    rounded = contrastive_loss(first.bfloat16().float(), second.bfloat16().float(), scale)
    assert low.item() == pytest.approx(rounded.item(), rel=1e-6)


COUNTS = {
    "even": (6, 6),
    "uneven": (3, 9),
    "first is empty": (0, 12),
    "second is empty": (12, 0),
    "both are empty": (0, 0),
}


def no_words(texts: torch.Tensor) -> torch.Tensor:
    return texts.new_zeros(len(texts), WIDTH)


def rank_gradients(rank: int, folder: str) -> None:
    """What one of two ranks does: plain and cached gradients, averaged as data parallelism does."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    images, texts = batch(12, torch.float64)
    found = {}
    for name, counts in COUNTS.items():
        for cached in (False, True):
            start = sum(counts[:rank])
            own = [each[start : start + counts[rank]] for each in (images, texts)]
            model = Sides(torch.float64)
            # a side that nothing was encoded for has no graph
            words = model.words if counts[rank] else no_words
            encoders = (model.regions, words)
            if cached:
                pieces = [each.split(2) for each in own]
                value = cached_backward(encoders, pieces, model.loss)
            else:
                value = model.loss(*(encode(each) for encode, each in zip(encoders, own)))  # noqa: B905
                value.backward()
            value = value.detach()
            torch.distributed.all_reduce(value)
            for parameter in model.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad.div_(2)
            found[f"{name}, {cached}"] = (value / 2, model.gradients())
            other = Sides(torch.float64)
            other.loss(other.regions(own[0]), other.words(own[1]).detach()).backward()
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    run_ranks(rank_gradients, str(tmp_path))
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    images, texts = batch(12, torch.float64)
    alone = Sides(torch.float64)
    expected = alone.loss(alone.regions(images), alone.words(texts))
    expected.backward()
    assert len(found) == 2 * len(COUNTS)
    for name, (value, gradients) in found.items():
        if name.startswith("both"):
            assert value.item() == 0
            assert not any(gradient.any() for gradient in gradients.values())
            continue
        assert value.item() == pytest.approx(expected.item()), name
        for parameter, gradient in alone.gradients().items():
            assert torch.allclose(gradient, gradients[parameter], atol=1e-9), (name, parameter)
