import inspect
from pathlib import Path

import pytest

from deixis.data.sources import FORMATS, named_apart, open_source
from deixis.data.sources.__main__ import table
from deixis.errors import AnnotationError, RecipeError

ROOT = Path(__file__).parents[3]


def test_the_page_has_the_table_of_formats() -> None:
    page = (ROOT / "docs" / "sources.md").read_text()
    assert f"<!-- table -->\n\n{table()}\n\n<!-- end of table -->" in page


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"scenes"}))
def test_every_format_reports_missing_files(name: str, tmp_path: Path) -> None:
    parameters = inspect.signature(FORMATS[name].open).parameters
    split = ",split=val" if "split" in parameters else ""
    with pytest.raises((AnnotationError, RecipeError)):
        list(open_source(f"{name}:{tmp_path}/nowhere{split}").source.parts())
    assert "name" in parameters


def test_sources_of_one_name_get_numbers() -> None:
    sources = named_apart([open_source("scenes:train,count=1") for _ in range(3)])
    assert [one.source.name for one in sources] == ["scenes", "scenes-2", "scenes-3"]
