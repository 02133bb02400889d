"""A model that loads and answers fast."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from deixis.inference import Predictor


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
