from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from deixis.training.build import ALIGNMENT, align_memory


def test_weights_mapped_from_a_file_are_aligned_and_unchanged(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    whole = torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)
    )
    whole[2].bias = whole[0].weight  # tied, as embeddings are
    state = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    save_file(state, tmp_path / "x.safetensors")
    mapped = load_file(tmp_path / "x.safetensors")
    whole.load_state_dict(mapped, assign=True)
    whole[2].bias = whole[0].weight  # tied, as embeddings are
    everything = [*whole.parameters(), *whole.buffers()]
    assert any(tensor.data_ptr() % ALIGNMENT for tensor in everything)
    align_memory(whole)
    assert not any(tensor.data_ptr() % ALIGNMENT for tensor in everything)
    assert whole[2].bias is whole[0].weight
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, state[name]), name
