"""Write ``constraints.txt``: one version of every package that ``.[dev]`` installs.

``make lock`` runs it with uv installed. A pin holds on every system; where Pythons need different
versions, there is one pin for each range of them.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST_PYTHON = "3.11"
HEAD = (
    "# Written by `make lock` from pyproject.toml and constraints.in: every package that "
    "`.[dev]` installs.\n"
)
_PYTHON_RANGE = re.compile(r"python_full_version (?:<|>=) '3\.\d+'")


def main() -> None:
    """Resolve the newest versions within the bounds and write them."""
    words = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--upgrade", "--quiet"]
    words += ["--python-version", OLDEST_PYTHON, "--extra", "dev", "--no-header", "--no-annotate"]
    words += ["--constraint", str(ROOT / "constraints.in"), str(ROOT / "pyproject.toml")]
    found = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
    pins = [line for line in found.splitlines() if "==" in line and not line.startswith("#")]
    # no package needs torchvision, so the resolver leaves it out; pip must still refuse it
    pins.append("torchvision==0.0.0")
    split = {_name(pin) for pin in pins if sum(_name(other) == _name(pin) for other in pins) > 1}
    lines = [_short(pin) if _name(pin) in split else pin.split(" ;")[0] for pin in pins]
    (ROOT / "constraints.txt").write_text(HEAD + "".join(f"{line}\n" for line in sorted(lines)))


def _name(pin: str) -> str:
    return pin.split("==", maxsplit=1)[0]


def _short(pin: str) -> str:
    """Keep of a pin's marker what tells it from the other pins of its package: the Pythons."""
    version, _, marker = pin.partition(" ; ")
    return f"{version} ; {' and '.join(_PYTHON_RANGE.findall(marker))}"


if __name__ == "__main__":
    main()
