"""Next-token cross-entropy: time and peak memory of forward and backward.

Three ways over the same sequences, of which a share has labels (a sequence that shows an image is
mostly image tokens and questions, which have none):

* ``full``: logits for every token, as Hugging Face's models and the four systems' public code do;
* ``kept``: logits where the label is not ignored (`language_loss`, all tokens at once);
* ``pieces``: those, some tokens at a time, computed again for the gradient.

Each way runs in a process of its own; memory is how far its peak rises above the inputs, weights
and their gradients: of the whole process on a processor, of what torch allocated on CUDA.

Run: python benchmarks/language_loss.py [--tokens 8192] [--vocabulary 32000] [--width 512]
     [--labelled 0.5] [--device cpu]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial

import torch
from torch.nn import functional

from deixis.models.losses.language import language_loss
from deixis.structures import IGNORE_INDEX

WAYS = ("full", "kept", "pieces")


def full_loss(head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = head(hidden).float()[:, :-1]
    return functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX
    )


def peak(device: torch.device) -> int:
    """Most bytes so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(options.device)
    rows = 4
    hidden = torch.randn(rows, options.tokens // rows, options.width, device=device)
    labels = torch.randint(0, options.vocabulary, hidden.shape[:2], device=device)
    labels[torch.rand(labels.shape, device=device) > options.labelled] = IGNORE_INDEX
    head = torch.nn.Linear(options.width, options.vocabulary, bias=False, device=device)
    hidden.requires_grad_()
    way = {
        "full": full_loss,
        "kept": partial(language_loss, tokens_at_once=10**9),
        "pieces": language_loss,
    }[options.way]
    # torch loads code at its first use
    small = torch.nn.Linear(8, 16, bias=False, device=device)
    way(small, hidden.detach()[:, :8, :8].requires_grad_(), labels[:, :8].clamp(max=15)).backward()
    # gradients are there before, so that no way pays for them
    head.weight.grad, hidden.grad = torch.zeros_like(head.weight), torch.zeros_like(hidden)
    before = peak(device)
    seconds = []
    for _ in range(options.repeats):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        loss = way(head, hidden, labels)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {"loss": loss.item(), "seconds": min(seconds), "bytes": peak(device) - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--labelled", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--way", choices=WAYS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        found[way] = json.loads(done.stdout)
    print(
        f"{options.tokens} tokens, {options.labelled:.0%} labelled, {options.vocabulary} words, "
        f"width {options.width}, {options.device}"
    )
    for way, row in found.items():
        assert abs(row["loss"] - found["full"]["loss"]) < 1e-4 * found["full"]["loss"]
        print(
            f"{way}: {row['seconds']:.2f} s, {row['bytes'] / 2**20:.0f} MiB; "
            f"full takes {found['full']['seconds'] / row['seconds']:.1f} times as long "
            f"and {found['full']['bytes'] / max(row['bytes'], 1):.1f} times the memory"
        )


if __name__ == "__main__":
    main()
