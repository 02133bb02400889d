import pytest
from closeness import assert_same_answers
from tiny import tiny_model

from deixis.evaluation import Report, evaluate
from deixis.inference import Predictor

NAME = "scenes/rec:val@plain"


def run(batch_size: int) -> Report:
    model, processor = tiny_model()
    predictor = Predictor(model, processor.tokenizer, name="tiny")
    return evaluate(predictor, [NAME], limit=2, batch_size=batch_size)


@pytest.mark.slow
def test_a_real_predictor_can_be_evaluated_in_batches_of_any_size() -> None:
    single, together = run(1), run(2)
    assert_same_answers(single[NAME].scores, together[NAME].scores)
    terms = single[NAME].protocol
    assert terms.predictor.name == "tiny"
    assert terms.predictor.weights_sha256 is not None
    assert terms == together[NAME].protocol
