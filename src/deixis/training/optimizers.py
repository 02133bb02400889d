"""AdamW alone, or Muon for matrices combined with AdamW for other parameters."""

import torch
from torch import Tensor, nn

from deixis.training.recipe import Optimizer

MUON_SMALLEST_SIDE = 32
"""Matrices with fewer rows or columns stay with AdamW: they have little to orthogonalise."""


class OptimizerSet:
    """Optimizers that step together.

    Muon accepts only matrices. It gets flat views of convolution kernels: output channels by all
    inputs. A view shares memory with its parameter, so a step on the view updates the parameter.
    """

    def __init__(
        self,
        members: dict[str, torch.optim.Optimizer],
        scales: dict[str, float],
        views: list[tuple[nn.Parameter, nn.Parameter]],
    ) -> None:
        self.members = members
        self.scales = scales
        self.views = views

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of AdamW; other optimizers scale it."""
        for name, member in self.members.items():
            for group in member.param_groups:
                group["lr"] = rate * self.scales[name]

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for parameter, view in self.views:
            view.grad = None if parameter.grad is None else parameter.grad.reshape(view.shape)
        for member in self.members.values():
            member.step()

    def zero_grad(self) -> None:
        """Clear all gradients."""
        for parameter, view in self.views:
            parameter.grad = view.grad = None
        for member in self.members.values():
            member.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return all state as named tensors, by optimizer and order of parameters."""
        return {
            f"{member}.{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous().clone()
            for member, optimizer in self.members.items()
            for index, entries in optimizer.state_dict()["state"].items()
            for name, value in entries.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load state returned by `tensors`.

        Raises:
            KeyError: A tensor belongs to an unknown optimizer.
        """
        states: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self.members}
        for key, tensor in tensors.items():
            member, index, name = key.split(".", 2)
            # copies: the tensors may be mapped from a file that is later removed or overwritten
            states[member].setdefault(int(index), {})[name] = tensor.clone()
        for member, optimizer in self.members.items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": states[member], "param_groups": groups})


def build_optimizer(model: nn.Module, config: Optimizer) -> OptimizerSet:
    """Build optimizers for all parameters of ``model`` that require a gradient.

    Weight decay applies to matrices, not to biases, norms and embeddings. With ``muon_scale``, Muon
    trains matrices and kernels except embeddings and the output head of the language model.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    words = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    heads = {id(m.weight) for name, m in model.named_modules() if name.split(".")[-1] == "lm_head"}
    muon = [
        p
        for p in trained
        if config.muon_scale is not None
        and p.ndim > 1
        and id(p) not in words | heads
        and min(p.shape[0], p.numel() // p.shape[0]) >= MUON_SMALLEST_SIDE
    ]
    taken = {id(p) for p in muon}
    others = [p for p in trained if id(p) not in taken]
    decayed = [p for p in others if p.ndim > 1 and id(p) not in words]
    plain = [p for p in others if p.ndim <= 1 or id(p) in words]
    members: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=config.lr,
            betas=config.betas,
            fused=True,
        )
    }
    scales = {"adamw": 1.0}
    views: list[tuple[nn.Parameter, nn.Parameter]] = []
    if muon:
        views = [(p, nn.Parameter(p.data.view(p.shape[0], -1))) for p in muon]
        members["muon"] = torch.optim.Muon(
            [view for _, view in views],
            lr=config.lr,
            weight_decay=config.weight_decay,
            # gives updates of AdamW's size; Muon's default scale suits wide layers
            adjust_lr_fn="match_rms_adamw",
        )
        scales["muon"] = config.muon_scale or 1.0
    return OptimizerSet(members, scales, views)
