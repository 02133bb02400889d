"""Recipes are found by name, by file and function, or in the JSON of a run."""

from pathlib import Path

import pytest

from deixis.errors import RecipeError
from deixis.recipes import RECIPES, load_recipe, recipe_to_json

_FILE = """
from dataclasses import replace
from deixis.recipes import scenes_tiny

def mine():
    return replace(scenes_tiny(), name="mine")

def number():
    return 5

constant = 3
"""


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_has_its_name_and_round_trips_through_json(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    path = tmp_path / "recipe.json"
    path.write_text(recipe_to_json(recipe))
    assert load_recipe(str(path)) == recipe


def test_overrides_are_applied() -> None:
    assert load_recipe("scenes_tiny", ["stages.0.steps=7"]).stages[0].steps == 7


def test_a_recipe_comes_from_a_function_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "my_recipe.py"
    path.write_text(_FILE)
    recipe = load_recipe(f"{path}:mine", ["seed=5"])
    assert (recipe.name, recipe.seed) == ("mine", 5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "unknown recipe 'nothing'; expected one of scenes_tiny"),
        ("", "unknown recipe ''"),
        ("../../etc/passwd", "unknown recipe"),
        ("{folder}/missing.py:mine", "missing.py: cannot be read"),
        ("{folder}/missing.json", "missing.json: cannot be read"),
        ("{folder}/file.py:theirs", "has no function 'theirs'"),
        ("{folder}/file.py:constant", "has no function 'constant'"),
        ("{folder}/file.py:number", "returns int, expected TrainRecipe"),
        ("{folder}/wrong.py:mine", "wrong.py: SyntaxError"),
        ("{folder}/lacking.py:mine", "lacking.py: ModuleNotFoundError"),
        ("{folder}/empty.json", "recipe is not JSON"),
    ],
)
def test_files_and_names_without_a_recipe_are_refused(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "file.py").write_text(_FILE)
    (tmp_path / "wrong.py").write_text("def mine(:\n")
    (tmp_path / "lacking.py").write_text("import no_such_module\n")
    (tmp_path / "empty.json").write_text("")
    with pytest.raises(RecipeError) as caught:
        load_recipe(name.format(folder=tmp_path))
    assert words in str(caught.value)
