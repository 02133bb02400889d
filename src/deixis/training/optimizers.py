"""AdamW alone, or Muon for matrices and AdamW for the rest, as one."""

import torch
from torch import Tensor, nn

from deixis.training.recipe import Optimizer

MUON_SMALLEST_SIDE = 32
"""Matrices narrower than this stay with AdamW: there is little in them to orthogonalise."""


class OptimizerSet:
    """Optimizers that step together.

    Muon's parameters are flat views of kernels: it takes matrices only, and a kernel is one, of
    its output channels by everything they read. A view shares its memory with the parameter, so
    that a step on one is a step on the other.
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
        """Set the learning rate of AdamW; the others follow by their scale."""
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
        """Forget all gradients."""
        for parameter, view in self.views:
            parameter.grad = view.grad = None
        for member in self.members.values():
            member.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All state as named tensors, by optimizer and order of parameters."""
        return {
            f"{member}.{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous().clone()
            for member, optimizer in self.members.items()
            for index, entries in optimizer.state_dict()["state"].items()
            for name, value in entries.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Undo `tensors`.

        Raises:
            KeyError: A tensor belongs to an optimizer that is not here.
        """
        states: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self.members}
        for key, tensor in tensors.items():
            member, index, name = key.split(".", 2)
            # a copy: the tensors may be mapped from a file that is removed or written over
            states[member].setdefault(int(index), {})[name] = tensor.clone()
        for member, optimizer in self.members.items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": states[member], "param_groups": groups})


def build_optimizer(model: nn.Module, config: Optimizer) -> OptimizerSet:
    """Optimizers for everything in ``model`` that requires a gradient.

    Matrices decay; biases, norms and embeddings do not. With ``muon_scale``, matrices and kernels
    that are neither embeddings nor the head over the vocabulary go to Muon.
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
            # its own rule suits wide layers; this one gives updates of AdamW's size
            adjust_lr_fn="match_rms_adamw",
        )
        scales["muon"] = config.muon_scale or 1.0
    return OptimizerSet(members, scales, views)
