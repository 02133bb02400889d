"""The command line, and a model small enough to train in a moment."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from command import Ended, Run

from deixis.cli import main
from deixis.inference import Predictor


@pytest.fixture
def deixis(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``deixis`` with arguments; nothing it does may show a traceback."""

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 1
        printed = capfd.readouterr()
        assert "Traceback" not in printed.err
        return Ended(code, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a random tiny model that ends its answers at once.

    A random model never ends by itself, and its words do not matter here.
    """
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model, processor = tiny.tiny_model()
    head = model.language_model.get_output_embeddings()
    states: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda _, inputs, __: states.append(inputs[0].detach()))
    Predictor(model, processor.tokenizer).ask(
        np.zeros((60, 80, 3), np.uint8), "Where is it?", max_new_tokens=1
    )
    hook.remove()
    with torch.no_grad():
        head.weight[processor.tokenizer.end_id] = states[0].reshape(-1, head.in_features)[-1] * 9
    model.save_pretrained(folder)
    processor.save(folder)
    return folder
