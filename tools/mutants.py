"""Change the code in small ways and see whether a test fails: ``make mutants``.

The changes are mutmut's; of all that it makes of a group's modules, a seeded sample is tried. mutmut's own
runner leaves decorated functions out and runs the suite under its own import of the package, so the
tests run here: each mutant in a process forked from one that has the libraries loaded, with the
tests of its group, without jaxtyping's checks. A mutant that no test notices is a survivor, and
the command fails, unless `tools/equivalent_mutants.json` says why it changes nothing.

Not mutated: annotations, decorators, texts within ``raise`` (tests match them by a part), ``zip``'s
``strict``, ``__all__``.
"""

import argparse
import contextlib
import difflib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "mutants"
TREE = BUILD / "tree"
# after the project's own packages, so that the tests see the versions that they are meant for
sys.path.append(str(BUILD / "tool"))
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis  # noqa: E402
import libcst as cst  # noqa: E402
import pytest  # noqa: E402
from mutmut.mutation.mutators import mutation_operators, operator_string  # noqa: E402

GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "geometry": (("src/deixis/geometry",), ("tests/geometry",)),
    "notation": (("src/deixis/notation",), ("tests/notation",)),
    "metrics": (("src/deixis/metrics",), ("tests/metrics",)),
    "losses": (
        (
            "src/deixis/models/losses/boxes.py",
            "src/deixis/models/losses/language.py",
            "src/deixis/models/losses/masks.py",
        ),
        (
            "tests/models/test_losses.py",
            "tests/models/test_language_loss.py",
            "tests/models/test_objectives.py",
        ),
    ),
    "matching": (
        ("src/deixis/models/matching.py",),
        ("tests/models/test_matching.py", "tests/models/test_objectives.py"),
    ),
    "generation": (
        ("src/deixis/inference/generation.py",),
        ("tests/inference/test_generation.py",),
    ),
    "checkpoints": (
        ("src/deixis/training/checkpoints.py",),
        ("tests/training/test_checkpoints.py",),
    ),
}
"""Modules or folders of them, and the tests that have to notice."""

_PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "--tb=no", "--hypothesis-profile=mutants")
_PYTEST += (
    "-o",
    "addopts=--strict-markers --import-mode=importlib",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)
_MEMORY = 8 * 2**30


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module: the lines before and after."""

    module: str
    line: int
    before: str
    after: str
    source: str


class _Mutator(cst.CSTVisitor):
    """Collect pairs of a node and what it becomes."""

    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode]] = []
        self.raising = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator):
            return False
        if isinstance(node, cst.Expr) and isinstance(node.value, cst.BaseString):
            return False
        if (
            isinstance(node, cst.Assign)
            and getattr(node.targets[0].target, "value", "") == "__all__"
        ):
            return False
        if isinstance(node, cst.Arg) and getattr(node.keyword, "value", "") == "strict":
            return False
        self.raising += isinstance(node, cst.Raise)
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and not (self.raising and operator is operator_string):
                self.found += [(node, made) for made in operator(node) if not _lenient(node, made)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        self.raising -= isinstance(original_node, cst.Raise)


def _lenient(node: cst.CSTNode, made: cst.CSTNode) -> bool:
    """Whether a change only takes from ``zip`` the check of what always holds."""
    return isinstance(node, cst.Call) and _strictness(node) != _strictness(made)


def _strictness(node: cst.CSTNode) -> list[str]:
    arguments = node.args if isinstance(node, cst.Call) else ()
    strict = [one for one in arguments if getattr(one.keyword, "value", "") == "strict"]
    return [getattr(one.value, "value", "") for one in strict]


def changes_of(path: Path) -> list[tuple[Path, cst.Module, cst.CSTNode, cst.CSTNode]]:
    """Every change of a module: the node that is replaced, and by what."""
    tree = cst.parse_module(path.read_text())
    mutator = _Mutator()
    tree.visit(mutator)
    return [(path, tree, node, made) for node, made in mutator.found]


def mutant_of(path: Path, tree: cst.Module, node: cst.CSTNode, made: cst.CSTNode) -> Mutant | None:
    """The module with one change, if it is another module and compiles."""
    changed = tree.deep_replace(node, made)
    source = changed.code if isinstance(changed, cst.Module) else tree.code
    try:
        compile(source, str(path), "exec")
    except SyntaxError:
        return None
    old, new = tree.code.splitlines(), source.splitlines()
    pieces = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for kind, start, end, other, last in pieces:
        if kind != "equal":
            before = "\n".join(line.strip() for line in old[start:end])
            after = "\n".join(line.strip() for line in new[other:last])
            return Mutant(str(path.relative_to(ROOT)), start + 1, before, after, source)
    return None


def run_tests(files: list[str], cpu_seconds: int, out: Path) -> tuple[str, float]:
    """Run tests in a fork: ``passed``, ``failed`` or ``endless``, and the seconds of processor."""
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            log = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(TREE)
            sys.path[:0] = [str(TREE / "src")]
            os.environ["PYTHONPATH"] = str(TREE / "src")
            code = int(pytest.main([*_PYTEST, f"--basetemp={BUILD / 'tmp'}", *files]))
            imported = (
                Path(sys.modules["deixis"].__file__ or "") if "deixis" in sys.modules else TREE
            )
            if not imported.is_relative_to(TREE):
                code = 71
            names = [name for name, one in sys.modules.items() if _is_library(one)]
            (BUILD / "modules.json").write_text(json.dumps(names))
            sys.stdout.flush()
        finally:
            os._exit(code)
    status = _wait(child, 20 * cpu_seconds)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    if os.WIFSIGNALED(status):
        return "endless", seconds
    code = os.WEXITSTATUS(status)
    if code in {5, 70, 71}:
        sys.exit(f"the tests cannot be run (exit {code}): see {out}")
    return ("failed" if code else "passed"), seconds


def _wait(child: int, seconds: int) -> int:
    """Wait for a child and end it if it sleeps for ever."""
    limit = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() > limit:
            os.killpg(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.02)


def _is_library(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and "site-packages" in file


def _preload() -> None:
    """Load what the tests needed of other packages, once for all mutants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in json.loads((BUILD / "modules.json").read_text()):
            if not name.startswith(("_pytest", "xdist", "pytest", "deixis")):
                # one that cannot be loaded alone is loaded by each child
                with contextlib.suppress(Exception):
                    importlib.import_module(name)


def _files(places: tuple[str, ...], pattern: str) -> list[Path]:
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += sorted(path.glob(pattern)) if path.is_dir() else [path]
    return [path for path in found if path.name not in {"__init__.py", "__main__.py"}]


def _chosen(modules: list[str]) -> dict[str, tuple[list[Path], list[Path]]]:
    """Modules and test files by group, of all groups or of those that hold the named modules."""
    wanted = {(ROOT / module).resolve() for module in modules}
    chosen = {}
    for name, (places, tests) in GROUPS.items():
        files = [path for path in _files(places, "*.py") if not wanted or path in wanted]
        if files:
            chosen[name] = files, _files(tests, "test_*.py")
    missed = wanted - {path for files, _ in chosen.values() for path in files}
    if missed:
        sys.exit(f"no group of tools/mutants.py has {sorted(map(str, missed))}")
    return chosen


def try_group(
    files: list[Path], tests: list[Path], picked: list[Mutant], equivalent: dict[str, str]
) -> list[dict[str, Any]]:
    """Try mutants one after the other; the tests of the module's own name go first."""
    names = [str(path.relative_to(ROOT)) for path in tests]
    state, seconds = run_tests(names, 900, BUILD / "unchanged.txt")
    if state != "passed":
        sys.exit(f"the tests fail without a mutant: see {BUILD / 'unchanged.txt'}")
    _preload()
    print(f"  {len(files)} modules, tests take {seconds:.0f} s of processor", flush=True)
    results = []
    for number, mutant in enumerate(picked):
        own = [name for name in names if Path(name).stem == f"test_{Path(mutant.module).stem}"]
        target = TREE / mutant.module
        original = target.read_bytes()
        try:
            target.write_text(mutant.source)
            # no compiled file of the unchanged module is of this second
            os.utime(target, (1_000_000_000 + number,) * 2)
            ordered = [*own, *(name for name in names if name not in own)]
            state, _ = run_tests(ordered, int(3 * seconds) + 20, BUILD / "last.txt")
        finally:
            target.write_bytes(original)
        verdict = {"passed": "survived", "failed": "killed", "endless": "endless"}[state]
        reason = equivalent.get(_key(mutant), "")
        if verdict == "survived" and reason:
            verdict = "equivalent"
        if verdict == "survived":
            print(f"  {mutant.module}:{mutant.line}\n    - {mutant.before}\n    + {mutant.after}")
            sys.stdout.flush()
        fields = {key: value for key, value in asdict(mutant).items() if key != "source"}
        results.append({**fields, "verdict": verdict, "reason": reason})
    return results


def _key(mutant: Mutant) -> str:
    return f"{mutant.module}: {mutant.before} -> {mutant.after}"


def _report(groups: dict[str, dict[str, Any]], seed: int) -> str:
    lines = [
        f"# Mutants (seed {seed})",
        "",
        "| group | all | tried | killed | survived | equivalent |",
    ]
    lines.append("|---|---|---|---|---|---|")
    total: Counter[str] = Counter()
    for name, group in groups.items():
        counts = Counter(one["verdict"] for one in group["mutants"])
        killed = counts["killed"] + counts["endless"]
        row = {"all": group["all"], "tried": len(group["mutants"]), "killed": killed}
        row |= {key: counts[key] for key in ("survived", "equivalent")}
        total.update(row)
        lines.append(f"| {name} | " + " | ".join(str(value) for value in row.values()) + " |")
    columns = ("all", "tried", "killed", "survived", "equivalent")
    lines.append("| together | " + " | ".join(str(total[key]) for key in columns) + " |")
    counted = total["killed"] + total["survived"]
    lines += [
        "",
        f"Killed of those that change anything: {total['killed'] / max(counted, 1):.1%}",
        "",
    ]
    for group in groups.values():
        for one in group["mutants"]:
            if one["verdict"] == "survived":
                lines += [f"`{one['module']}:{one['line']}`", "", "```diff"]
                lines += [f"- {line}" for line in one["before"].splitlines()]
                lines += [f"+ {line}" for line in one["after"].splitlines()]
                lines += ["```", ""]
    return "\n".join(lines)


def main() -> None:
    """Try a sample of every group and write ``build/mutants/report.json`` and ``report.md``."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("modules", nargs="*", help="modules to mutate; all groups if none is named")
    parser.add_argument("--sample", type=int, default=30, help="mutants for each group; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", help="names of groups, with commas")
    asked = parser.parse_args()
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, TREE / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", TREE)
    equivalent = json.loads((ROOT / "tools" / "equivalent_mutants.json").read_text())
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    checks = list(hypothesis.HealthCheck)
    hypothesis.settings.register_profile(
        "mutants",
        database=None,
        deadline=None,
        derandomize=True,
        phases=phases,
        suppress_health_check=checks,
    )
    groups: dict[str, dict[str, Any]] = {}
    for name, (files, tests) in _chosen(asked.modules).items():
        if asked.groups and name not in asked.groups.split(","):
            continue
        print(name, flush=True)
        every = [change for path in files for change in changes_of(path)]
        random.Random(f"{asked.seed} {name}").shuffle(every)  # noqa: S311
        made = (mutant for change in every if (mutant := mutant_of(*change)))
        picked = list(islice(made, asked.sample or None))
        tried = try_group(files, tests, picked, equivalent)
        groups[name] = {"all": len(every), "mutants": tried}
        written = {"seed": asked.seed, "sample": asked.sample, "groups": groups}
        (BUILD / "report.json").write_text(json.dumps(written, indent=1) + "\n")
        (BUILD / "report.md").write_text(_report(groups, asked.seed))
    print((BUILD / "report.md").read_text().split("\n`", maxsplit=1)[0])
    print(f"{BUILD.relative_to(ROOT)}/report.md")
    left = [one for group in groups.values() for one in group["mutants"]]
    sys.exit(any(one["verdict"] == "survived" for one in left))


if __name__ == "__main__":
    main()
