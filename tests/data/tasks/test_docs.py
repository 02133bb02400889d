from pathlib import Path

from deixis.data.tasks.__main__ import rules_table, tasks_table

PAGE = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text()


def test_the_page_shows_all_tasks_and_rules_of_the_registry() -> None:
    assert tasks_table() in PAGE
    assert rules_table() in PAGE
