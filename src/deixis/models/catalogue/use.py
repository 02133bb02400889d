"""How parts are used: in the composite model, by a command, or alone, from the source code.

A definition uses the definitions that its source names. Parts reachable from `PointingVLM` are in
the composite model; parts reachable from the command line are used by a command.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Use = Literal["model", "command", "alone"]
Name = tuple[str, str]
"""A module and a top-level definition in it."""

_ROOT = Path(__file__).parents[2]
MODEL: Name = ("deixis.models.pointing", "PointingVLM")
COMMANDS = "deixis.cli.app"


@dataclass(frozen=True, slots=True)
class _Module:
    """Top-level definitions of a module, and the origins of its imported names."""

    name: str
    tree: ast.Module
    definitions: Mapping[str, ast.stmt]
    imports: Mapping[str, Name]


def uses(codes: tuple[str, ...]) -> dict[str, Use]:
    """Return the use of each class, function or table, given by full name."""
    model = _reached({MODEL})
    command = _reached(set(_named(_module(COMMANDS), _module(COMMANDS).tree)))
    found: dict[str, Use] = {}
    for code in codes:
        module, _, name = code.rpartition(".")
        own = _home((module, name))
        found[code] = "model" if own in model else "command" if own in command else "alone"
    return found


def _reached(names: set[Name]) -> set[Name]:
    reached: set[Name] = set()
    waiting = [_home(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        module = _module(name[0])
        if name[1] in module.definitions:
            waiting += [_home(each) for each in _named(module, module.definitions[name[1]])]
    return reached


def _home(name: Name) -> Name:
    """Return where a name is defined, through any number of re-exports."""
    module = _module(name[0])
    if name[1] in module.definitions or name[1] not in module.imports:
        return name
    return _home(module.imports[name[1]])


def _named(module: _Module, node: ast.AST) -> Iterator[Name]:
    """Yield the definitions of deixis that a piece of source names."""
    imports = {**module.imports, **_imports(ast.walk(node))}
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            base, name = imports.get(each.value.id, ("", "")), each.attr
            inner = ".".join(filter(None, base))
            if _file(inner) is not None:
                yield inner, name
        elif isinstance(each, ast.Name) and each.id in imports:
            if _file(".".join(imports[each.id])) is None:
                yield imports[each.id]
        elif isinstance(each, ast.Name) and each.id in module.definitions:
            yield module.name, each.id


def _imports(nodes: Iterator[ast.AST]) -> dict[str, Name]:
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        and node.module is not None
        and node.module.split(".")[0] == "deixis"
        for alias in node.names
    }


@cache
def _module(name: str) -> _Module:
    file = _file(name)
    if file is None:
        return _Module(name, ast.Module([], []), MappingProxyType({}), MappingProxyType({}))
    tree = ast.parse(file.read_text())
    definitions: dict[str, ast.stmt] = {}
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=found) | ast.ClassDef(name=found):
                definitions[found] = node
            case (
                ast.AnnAssign(target=ast.Name(id=found)) | ast.Assign(targets=[ast.Name(id=found)])
            ):
                definitions[found] = node
            case _:
                pass
    imports = MappingProxyType(_imports(iter(tree.body)))
    return _Module(name, tree, MappingProxyType(definitions), imports)


@cache
def _file(name: str) -> Path | None:
    steps = name.split(".")
    if steps[0] != "deixis":
        return None
    place = _ROOT.joinpath(*steps[1:])
    if (place / "__init__.py").is_file():
        return place / "__init__.py"
    file = place.with_suffix(".py")
    return file if file.is_file() else None
