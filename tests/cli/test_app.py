"""Behaviour of all commands: help, exit codes, errors, signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import Run

import deixis as package
from deixis.cli import main

COMMANDS: tuple[list[str], ...] = ([], ["point"], ["eval"], ["train"], ["data"], ["data", "scenes"])
_HEAVY = {"torch", "transformers", "scipy", "numpy", "PIL", "accelerate", "jaxtyping"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_load_torch(command: list[str]) -> None:
    program = (
        "import sys\nfrom deixis.cli import main\n"
        f"code = main({[*command, '--help']!r})\n"
        f"print(sorted({_HEAVY!r} & set(sys.modules)), code)"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert "Usage" in done.stdout
    assert done.stderr == ""


def test_the_version_is_shown(deixis: Run) -> None:
    assert deixis("--version").out == f"deixis {package.__version__}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["data", "nonsense"]])
def test_wrong_usage_is_a_one_line_error_with_a_hint(deixis: Run, arguments: list[str]) -> None:
    ended = deixis(*arguments)
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("deixis: ")
    assert lines[1].startswith("hint: see deixis")
    assert "nonsense" in lines[0]


def test_control_characters_in_names_are_not_printed(deixis: Run) -> None:
    ended = deixis("train", "\x1b[31mred\nnext", "--out", "nowhere")
    assert ended.code == 2
    assert "\x1b" not in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(("option", "shown"), [([], False), (["-W", "default"], True)])
def test_deprecation_warnings_are_shown_on_request(option: list[str], *, shown: bool) -> None:
    program = (
        "import sys, warnings, deixis.cli\n"
        "sys.argv = ['deixis', '--version']\n"
        "code = deixis.cli.run()\n"
        "warnings.warn('`old` will go', FutureWarning)\n"
        "assert code == 0\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, *option, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"},
    )
    assert done.stdout == f"deixis {package.__version__}\n"
    assert ("`old` will go" in done.stderr) is shown


def test_a_closed_stdout_is_not_an_error() -> None:
    script = Path(sys.executable).with_name("deixis")
    with subprocess.Popen(  # noqa: S603
        [script, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode in {0, 143}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_a_storage_error() -> None:
    script = Path(sys.executable).with_name("deixis")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(  # noqa: S603
            [script, "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 4
    assert done.stderr == "deixis: cannot write: no space left on device\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_killed_command_leaves_no_files(tmp_path: Path, number: int) -> None:
    script = Path(sys.executable).with_name("deixis")
    command: list[str | Path] = [script, "data", "scenes", "--count", "100000", "--out"]
    with subprocess.Popen([*command, tmp_path / "scenes"], stderr=subprocess.PIPE) as process:  # noqa: S603
        deadline = time.monotonic() + 60
        while not any(tmp_path.glob(".scenes*/*/*.png")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_main_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["deixis", "--version"])
    assert main() == 0
    assert package.__version__ in capsys.readouterr().out
