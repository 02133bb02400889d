import torch
from closeness import assert_same_outputs

from deixis.models.projector import Projector


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_projector_of_pink_has_the_count_of_the_paper() -> None:
    with torch.device("meta"):
        assert count(Projector(1024, 4096, layers=1, bias=False)) == 4_194_304
        assert count(Projector(1024, 4096, layers=1)) == 4_194_304 + 4096
        assert count(Projector(1024, 4096)) == 4_194_304 + 4096 + 4096 * 4097


def test_a_linear_projector_is_a_matrix() -> None:
    torch.manual_seed(0)
    projector = Projector(3, 5, layers=1, bias=False)
    features = torch.randn(2, 4, 3)
    (weight,) = projector.parameters()
    assert torch.allclose(projector(features), features @ weight.T, atol=1e-6)
    assert projector(torch.zeros(1, 1, 3)).abs().sum() == 0


def test_an_mlp_is_two_maps_around_an_exact_gelu() -> None:
    torch.manual_seed(0)
    projector = Projector(3, 5)
    first, second = (projector.layers.get_submodule(place) for place in ("0", "2"))
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(second, torch.nn.Linear)
    features = torch.randn(2, 3)
    hidden = features @ first.weight.T + first.bias
    active = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    assert torch.allclose(projector(features), active @ second.weight.T + second.bias, atol=1e-6)


def test_tokens_are_mapped_independently_and_weights_round_trip() -> None:
    torch.manual_seed(0)
    for projector, fresh in (
        (Projector(4, 6, layers=1), Projector(4, 6, layers=1)),
        (Projector(4, 6), Projector(4, 6)),
    ):
        features = torch.randn(5, 4)
        order = torch.randperm(5)
        assert torch.allclose(projector(features[order]), projector(features)[order], atol=1e-6)
        fresh.load_state_dict(projector.state_dict(), strict=True)
        assert_same_outputs(fresh(features), projector(features))


def test_names_of_released_weights_are_unchanged() -> None:
    assert list(Projector(2, 2).state_dict()) == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.2.weight",
        "layers.2.bias",
    ]
