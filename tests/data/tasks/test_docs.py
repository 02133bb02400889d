from pathlib import Path

from deixis.data.tasks.__main__ import rules_table, tasks_table

PAGE = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text()


def test_the_page_shows_every_task_and_rule_as_the_registry_has_them() -> None:
    assert tasks_table() in PAGE
    assert rules_table() in PAGE
