from collections.abc import Sequence

import torch
from torch import nn

from deixis.evaluation import (
    BatchPredictor,
    CenterBox,
    PredictorRecord,
    SamplePredictor,
    hash_weights,
    record_predictor,
)
from deixis.evaluation.predictor_interface import Question
from deixis.structures import Answer


class Loaded:
    """A predictor with a model."""

    name = "tiny"
    decoding = "greedy"

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def ask_many(self, questions: Sequence[Question], /) -> list[Answer]:
        assert not questions
        return []


def seeded(seed: int) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def test_the_hash_of_weights_changes_with_values_names_and_shapes() -> None:
    model = seeded(0)
    hashes = {
        hash_weights(seeded(1)),
        hash_weights(nn.Sequential(model)),
        hash_weights(nn.ParameterDict({"weight": model.weight.T, "bias": model.bias})),
    }
    assert hash_weights(model) == hash_weights(seeded(0))
    assert hash_weights(model) not in hashes
    assert len(hashes) == 3


def test_the_hash_of_weights_does_not_depend_on_a_wider_type() -> None:
    narrow = seeded(0).to(torch.bfloat16)
    before = hash_weights(narrow)
    assert hash_weights(narrow.float()) == before


def test_a_predictor_is_recorded_with_its_weights() -> None:
    model = seeded(0)
    assert record_predictor(Loaded(model)) == PredictorRecord("tiny", hash_weights(model), "greedy")


def test_a_predictor_without_weights_is_recorded_by_name() -> None:
    assert record_predictor(CenterBox()) == PredictorRecord("centre box")


def test_the_two_kinds_of_predictors_are_told_apart() -> None:
    assert isinstance(CenterBox(), SamplePredictor)
    assert not isinstance(CenterBox(), BatchPredictor)
    assert isinstance(Loaded(seeded(0)), BatchPredictor)
