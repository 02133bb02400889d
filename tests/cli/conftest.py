"""The command line, and a model small enough to train in a moment."""

from pathlib import Path

import pytest
import tiny
from command import Ended, Run

from deixis.cli import main


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
    """Give a folder with a random tiny model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model, processor = tiny.tiny_model()
    model.save_pretrained(folder)
    processor.save(folder)
    return folder
