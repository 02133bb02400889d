import pytest
import torch

from deixis.models.losses.language import language_loss
from deixis.structures import IGNORE_INDEX


class CountingHead(torch.nn.Linear):
    """A head that remembers how many tokens it saw at once."""

    most = 0

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, states.shape[:-1].numel())
        return super().forward(states)


def sequences(*, ignored: float, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 17, 6, generator=generator, dtype=dtype)
    labels = torch.randint(0, 11, (3, 17), generator=generator)
    labels[torch.rand(3, 17, generator=generator) < ignored] = IGNORE_INDEX
    return hidden, labels, torch.rand(3, 17, generator=generator, dtype=dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("tokens_at_once", [1, 7, 1000])
def test_loss_and_gradient_are_those_of_plain_cross_entropy(
    *, weighted: bool, ignored: float, tokens_at_once: int
) -> None:
    hidden, labels, weights = sequences(ignored=ignored, dtype=torch.float64)
    given = weights if weighted else None
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11, dtype=torch.float64)
    gradients = []
    values = []
    for plain in (True, False):
        states = hidden.clone().requires_grad_()
        head.zero_grad()
        if plain:
            value = plain_loss(head, states, labels, given)
        else:
            value = language_loss(head, states, labels, given, tokens_at_once=tokens_at_once)
        value.backward()
        values.append(value.detach())
        assert head.weight.grad is not None
        assert states.grad is not None
        gradients.append((states.grad, head.weight.grad.clone()))
    assert torch.allclose(values[0], values[1])
    for one, other in zip(*gradients, strict=True):
        assert torch.isfinite(other).all()
        assert torch.allclose(one, other)


def plain_loss(
    head: torch.nn.Module,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """Cross-entropy of every token, and then of those that count."""
    logits = head(hidden[:, :-1]).flatten(0, 1)
    wanted = labels[:, 1:].flatten()
    each = torch.nn.functional.cross_entropy(
        logits, wanted, ignore_index=IGNORE_INDEX, reduction="none"
    )
    counted = (wanted != IGNORE_INDEX).double()
    scale = counted if weights is None else weights[:, 1:].flatten() * counted
    return (each * scale).sum() / scale.sum().clamp(min=1e-6)


def test_no_more_tokens_have_logits_than_allowed() -> None:
    hidden, labels, _ = sequences(ignored=0.3, dtype=torch.float32)
    head = CountingHead(6, 11)
    language_loss(head, hidden.requires_grad_(), labels, tokens_at_once=5).backward()
    assert head.most == 5
    with torch.no_grad():
        language_loss(head, hidden, labels, tokens_at_once=5)
    assert head.most == 5


def test_ignored_tokens_get_no_gradient() -> None:
    hidden, labels, _ = sequences(ignored=0.5, dtype=torch.float32)
    hidden.requires_grad_()
    language_loss(torch.nn.Linear(6, 11), hidden, labels).backward()
    assert hidden.grad is not None
    ignored = torch.cat([labels[:, 1:] == IGNORE_INDEX, torch.ones(3, 1, dtype=torch.bool)], dim=1)
    assert hidden.grad[ignored].abs().max() == 0
    assert hidden.grad[~ignored].abs().amax(-1).min() > 0
