import pytest
from answer_keys import FEW, TASK_NAMES, KeyPredictor, build_key, first_examples, true_answer

from deixis.evaluation import Example, Report, evaluate


@pytest.fixture(scope="session")
def all_examples() -> list[Example]:
    return [example for name in TASK_NAMES for example in first_examples(name, limit=FEW)]


@pytest.fixture(scope="session")
def full_report(all_examples: list[Example]) -> Report:
    return evaluate(build_key(all_examples, true_answer), TASK_NAMES, limit=FEW)


@pytest.fixture(scope="session")
def rec_examples() -> list[Example]:
    return first_examples("scenes/rec:val@standard")


@pytest.fixture
def oracle(rec_examples: list[Example]) -> KeyPredictor:
    return build_key(rec_examples, true_answer)
