"""One of two ranks that run the same steps.

Gradients are written to ``FOLDER``: of both ranks with the same rows (``alike``), with rows that need
other parts (``apart``), and of an alignment whose batch is dealt to them (``align``), of which the
second rank has no region (``bare``), or neither has one (``nothing``), with what one process has.
"""

from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from tiny import tiny_recipe
from torch import distributed
from training.stepping import aligned_model, gradients, pieces_of, rows

from deixis.models.pointing import PointingVLM
from deixis.processing.processor import Processor
from deixis.training.build import build_model
from deixis.training.recipe import Stage
from deixis.training.steps import add_gradients

ANSWERS = Stage(name="learn", steps=1, batch_size=2)
ALIGN = Stage(name="align", steps=1, batch_size=4, objective="alignment", pieces=2)


def fresh() -> tuple[PointingVLM, Processor]:
    torch.manual_seed(0)
    model, processor = build_model(tiny_recipe())
    return model.train(mode=False), processor


def main(rank: int, folder: Path) -> None:
    """Run the steps."""
    accelerator = Accelerator(cpu=True)
    if rank == 0:
        # before there are ranks
        model, processor = fresh()
        batch = pieces_of(processor, rows(processor, 1, "locate", "reg"), 1)
        add_gradients(ANSWERS, batch, model, model, accelerator)
        save_file(gradients(model), folder / "alike-alone.safetensors")
        model, processor = aligned_model()
        whole = pieces_of(processor, rows(processor, 4, "ref_tag", "loc_tag"), 1)
        add_gradients(ALIGN, whole, model, model, accelerator)
        save_file(gradients(model), folder / "align-alone.safetensors")
        for kind, detach in (("bare", False), ("bare-detached", True)):
            model, processor = aligned_model(detach=detach)
            made = rows(processor, 2, "ref_tag", "loc_tag") + rows(processor, 2, "vqa")
            add_gradients(ALIGN, pieces_of(processor, made, 4), model, model, accelerator)
            save_file(gradients(model), folder / f"{kind}-alone.safetensors")
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    for kind in ("alike", "apart"):
        model, processor = fresh()
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        tasks = ("locate", "reg") if kind == "alike" or rank == 0 else ("vqa",)
        made = rows(processor, 1, *tasks)
        batch = pieces_of(processor, made, 1)
        add_gradients(ANSWERS, batch, model, wrapped, accelerator)
        save_file(gradients(model), folder / f"{kind}-{rank}.safetensors")
    model, processor = aligned_model()
    made = rows(processor, 4, "ref_tag", "loc_tag")[2 * rank : 2 * rank + 2]
    add_gradients(ALIGN, pieces_of(processor, made, 1), model, model, accelerator)
    save_file(gradients(model), folder / f"align-{rank}.safetensors")
    for kind, detach in (("bare", False), ("bare-detached", True), ("nothing", False)):
        model, processor = aligned_model(detach=detach)
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        tasks = ("ref_tag", "loc_tag") if kind != "nothing" and rank == 0 else ("vqa",)
        # in pieces on one rank and whole on the other
        batch = pieces_of(processor, rows(processor, 2, *tasks), 2 - rank)
        output = add_gradients(ALIGN, batch, model, wrapped, accelerator)
        assert kind != "nothing" or output.loss == 0
        save_file(gradients(model), folder / f"{kind}-{rank}.safetensors")
    # or one leaves while the other still listens
    distributed.barrier()
    distributed.destroy_process_group()
