"""Collect the pages of the documentation site in ``build/pages``: ``make docs`` runs this before zensical.

The pages of ``docs/``, the files of the repository that they link to, the notebook as a page, and one
page per public package for the API reference. Links between them are rewritten to their places in the
site.

Usage: python tools/docs_site.py FOLDER, or with --requirements instead, which prints what the extra `docs` needs
"""

import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
MOVED = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "results/README.md": "results/index.md",
    "examples/first-steps.ipynb": "first-steps.md",
}
"""Where a file of the repository lies in the site; other results keep their names."""

_LINK = re.compile(
    r"\[(?P<text>[^\[\]]*)\]\((?!https?:|#)(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
)


def places() -> dict[str, str]:
    """Every page of the site: its path in the repository and its path in the site."""
    pages = {f"docs/{path}": path for path in _below(ROOT / "docs")}
    pages |= {f"results/{path}": f"results/{path}" for path in _below(ROOT / "results", ".md")}
    return pages | MOVED


def _below(folder: Path, ending: str = "") -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob(f"*{ending}") if path.is_file()
    )


def packages() -> list[str]:
    """Every package with public names."""
    source = ROOT / "src"
    return sorted(
        ".".join(path.parent.relative_to(source).parts)
        for path in source.rglob("__init__.py")
        if "__all__" in path.read_text()
    )


def moved_links(text: str, page: str, pages: dict[str, str]) -> str:
    """A page's text with the links of the site; ``page`` is its path in the repository.

    A link to a file that is not in the site becomes its text.
    """

    def link(match: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(page).parent / match["target"])
        if target not in pages:
            return match["text"]
        relative = os.path.relpath(pages[target], PurePosixPath(pages[page]).parent)
        return f"[{match['text']}]({relative}{match['anchor'] or ''})"

    return _LINK.sub(link, text)


def notebook_page(path: Path) -> str:
    """A notebook as Markdown."""
    cells = json.loads(path.read_text())["cells"]
    pieces = [
        "".join(cell["source"])
        if cell["cell_type"] == "markdown"
        else f"```python\n{''.join(cell['source'])}\n```"
        for cell in cells
    ]
    return "\n\n".join(pieces) + "\n"


def collect(folder: Path) -> None:
    """Write every page of the site below a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = places()
    for origin, place in pages.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / origin
        if source.suffix == ".md":
            target.write_text(moved_links(source.read_text(), origin, pages))
        elif source.suffix == ".ipynb":
            target.write_text(moved_links(notebook_page(source), origin, pages))
        else:
            shutil.copyfile(source, target)
    reference = folder / "api"
    reference.mkdir()
    names = packages()
    for name in names:
        (reference / f"{name}.md").write_text(f"# {name}\n\n::: {name}\n")
    listed = "".join(f"- [{name}]({name}.md)\n" for name in names)
    (reference / "index.md").write_text(f"# API reference\n\n{listed}")


def requirements() -> list[str]:
    """The packages of the extra ``docs``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed: list[str] = project["optional-dependencies"]["docs"]
    return needed


if __name__ == "__main__":
    if sys.argv[1] == "--requirements":
        print(*requirements(), sep="\n")
    else:
        collect(Path(sys.argv[1]))
