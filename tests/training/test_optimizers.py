import pytest
import torch
from torch import nn

from deixis.training.optimizers import OptimizerSet, build_optimizer
from deixis.training.recipe import Optimizer


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 32)
        self.wide = nn.Linear(32, 48)
        self.narrow = nn.Linear(48, 4)
        self.kernel = nn.Conv2d(4, 32, 3)
        self.lm_head = nn.Linear(32, 40, bias=False)

    def loss(self) -> torch.Tensor:
        image = self.kernel(torch.linspace(-1, 1, 400).view(1, 4, 10, 10)).mean((2, 3))
        words = self.words(torch.arange(8))
        scores = self.lm_head(words + image)
        loss: torch.Tensor = scores.logsumexp(-1).sum()
        squares: torch.Tensor = self.narrow(self.wide(words)).square().sum()
        return loss + squares


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def step(model: Small, optimizer: OptimizerSet) -> float:
    optimizer.zero_grad()
    loss = model.loss()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("muon_scale", [None, 2.0])
def test_every_parameter_has_one_optimizer_and_is_updated(muon_scale: float | None) -> None:
    model = small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, Optimizer(muon_scale=muon_scale))
    optimizer.set_rate(1e-2)
    losses = [step(model, optimizer) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert not [name for name, p in model.named_parameters() if torch.equal(p, before[name])]


def test_muon_trains_matrices_and_kernels_but_not_embeddings_or_narrow_ones() -> None:
    model = small()
    optimizer = build_optimizer(model, Optimizer(muon_scale=2.0))
    taken = [parameter for parameter, _ in optimizer.views]
    assert {id(p) for p in taken} == {id(model.wide.weight), id(model.kernel.weight)}
    listed = [p for m in optimizer.members.values() for g in m.param_groups for p in g["params"]]
    assert len(listed) == len(list(model.parameters()))


def test_a_kernel_is_updated_as_a_matrix_of_its_output_channels() -> None:
    model = small()
    matrix = nn.Parameter(model.kernel.weight.detach().flatten(1).clone())
    reference = torch.optim.Muon(
        [matrix], lr=0.02, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
    )
    optimizer = build_optimizer(model, Optimizer(weight_decay=0.05, muon_scale=2.0))
    optimizer.set_rate(0.01)
    model.loss().backward()
    gradient = model.kernel.weight.grad
    assert gradient is not None
    matrix.grad = gradient.flatten(1).clone()
    optimizer.step()
    reference.step()
    torch.testing.assert_close(model.kernel.weight.detach().flatten(1), matrix.detach())


def test_restored_state_gives_the_same_next_steps() -> None:
    config = Optimizer(muon_scale=2.0)
    whole, cut = small(), small()
    going, stopped = build_optimizer(whole, config), build_optimizer(cut, config)
    for optimizer, model in ((going, whole), (stopped, cut)):
        optimizer.set_rate(1e-2)
        step(model, optimizer)
    resumed = small(seed=9)
    resumed.load_state_dict(cut.state_dict())
    fresh = build_optimizer(resumed, config)
    fresh.restore(stopped.tensors())
    fresh.set_rate(1e-2)
    for optimizer, model in ((going, whole), (fresh, resumed)):
        step(model, optimizer)
    expected = dict(whole.named_parameters())
    assert all(torch.equal(p, expected[name]) for name, p in resumed.named_parameters())


def test_state_of_another_optimizer_is_refused() -> None:
    model = small()
    optimizer = build_optimizer(model, Optimizer(muon_scale=2.0))
    optimizer.set_rate(1e-2)
    step(model, optimizer)
    with pytest.raises(KeyError):
        build_optimizer(small(), Optimizer()).restore(optimizer.tensors())
