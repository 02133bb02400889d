"""Pages of the documentation: their links lead somewhere, and they use the words of the glossary."""

import os
import re
from pathlib import Path
from runpy import run_path

import pytest

ROOT = Path(__file__).parent.parent
SITE = run_path(str(ROOT / "tools" / "docs_site.py"))
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*.md"))
)


def prose(text: str) -> str:
    """A page without its code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def links(text: str) -> list[tuple[str, str]]:
    """Paths and anchors of the links that stay on this machine."""
    found = re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)", prose(text))
    return [(path, anchor) for path, anchor in found]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site name them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    return {
        re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
        for heading in headings
    }


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for path, anchor in links(page.read_text()):
        target = Path(os.path.normpath(page.parent / path)) if path else page
        if not target.exists():
            wrong.append(path)
        elif anchor and anchor not in anchors(target.read_text()):
            wrong.append(f"{path}#{anchor}")
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_pages_and_headings(page: str) -> None:
    assert not broken(ROOT / page)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of the site, as `make docs` collects them."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    SITE["collect"](folder)
    return folder


def test_links_of_the_site_stay_inside_it(site: Path) -> None:
    pages = sorted(site.rglob("*.md"))
    assert {page.name: broken(page) for page in pages if broken(page)} == {}
    for page in pages:
        for path, _ in links(page.read_text()):
            assert Path(os.path.normpath(page.parent / path)).is_relative_to(site), (page, path)


def test_the_site_lists_every_page_and_no_other(site: Path) -> None:
    listed = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(set(listed)) == len(listed)
    written = {page.relative_to(site).as_posix() for page in site.rglob("*.md")}
    linked_from_others = {page for page in written if re.match(r"(api|results)/(?!index)", page)}
    assert set(listed) == written - linked_from_others


def test_the_index_names_every_page_of_the_documentation() -> None:
    listed = {path for path, _ in links((ROOT / "docs" / "index.md").read_text())}
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert pages - {"index.md"} <= listed


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One heading: two\n")
    page = tmp_path / "a.md"
    page.write_text("[x](b.md#one-heading-two) [y](b.md#three) [z](c.md) `[no](d.md)`\n")
    assert broken(page) == ["b.md#three", "c.md"]


def test_a_link_to_what_the_site_does_not_hold_becomes_text() -> None:
    pages = SITE["places"]()
    text = (
        "See [code](../src/deixis/errors.py), [design](design.md#layers) and [all](../README.md)."
    )
    assert SITE["moved_links"](text, "docs/tasks.md", pages) == (
        "See code, [design](design.md#layers) and [all](overview.md)."
    )


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_pages_are_written_in_plain_words(page: str) -> None:
    words = prose((ROOT / page).read_text())
    riddles = r"that which|(?:is|are) none\b|none of ours|one's own|trusting nothing"
    assert not re.findall(riddles, words, re.IGNORECASE)


def test_the_glossary_explains_each_term_once() -> None:
    terms = re.findall(
        r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE
    )
    assert len(set(terms)) == len(terms)
    wanted = (
        "instance problem region reference unit phrase sample conversation turn row batch canvas"
    )
    wanted += (
        " notation recipe stage part task format source shard record wording decoder benchmark"
    )
    assert set(wanted.split()) <= set(terms)
    assert {"source frame", "built data set"} <= set(terms)
