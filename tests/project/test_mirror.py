"""tests/ mirrors the package: whoever looks for the tests of a file looks in the folder of its room.

`material` holds what test files share; pytest finds it by `pythonpath` in pyproject.toml, as `from cases import CASES`.
Nothing else lies in tests/ itself: pytest puts the folder of a test file on sys.path, and from tests/ the folder keras
would be imported as Keras where that is not installed.
"""

import ast
from collections import Counter
from pathlib import Path

from paths import MATERIAL, ROOT

import fastbilstm

TESTS = ROOT / "tests"
ROOMS = {path.parent.name for path in Path(fastbilstm.__file__).parent.glob("*/__init__.py")}
OTHERS = {
    "ext": "the compiled modules, whose sources are in ext/",
    "model": "Model and the loose files of the package, and what asks a whole model",
    "project": "what is around the package: docs, tools, builds, compilers, the layout itself",
    "golden": "recorded models and answers; no Python",
    "material": "what test files share; no tests",
}
FILES = sorted(TESTS.rglob("*.py"))


def is_test(path):
    return path.name.startswith("test_")


def test_every_folder_is_a_room_or_one_of_the_named_others():
    assert {path.name for path in TESTS.iterdir() if path.name[0] not in "._"} == ROOMS | set(OTHERS)


def test_test_files_lie_one_folder_deep():
    folders = {path.parent for path in FILES if is_test(path)}
    assert folders == {TESTS / name for name in ROOMS | set(OTHERS) - {"golden", "material"}}
    assert not [path for path in FILES if path.parent == TESTS or path.name == "__init__.py"]


def test_names_are_unique():
    """pytest imports a test file by its name alone."""
    names = [path for path in FILES if path.name != "conftest.py"] + sorted((ROOT / "benches").glob("*.py"))
    counts = Counter(path.name for path in names)
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_test_file_imports_another():
    modules = {path.stem for path in FILES if is_test(path)}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found = {alias.name for alias in node.names}
            else:
                found = {node.module} if isinstance(node, ast.ImportFrom) else set()
            assert not found & modules, f"{path}:{node.lineno}: what test files share belongs in {MATERIAL.name}/"


def test_the_first_line_says_what_a_file_is_for():
    """Every file of tests/ begins with a sentence in its first line; the C file with a comment."""
    wrong = []
    for path in FILES:
        text = path.read_text("utf-8")
        first = text.partition("\n")[0]
        sentence = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        if not (first.startswith('"""') and len(first.split()) >= 3 and sentence.endswith(".")):
            wrong.append(str(path))
    wrong += [str(path) for path in MATERIAL.glob("*.[ch]") if not path.read_text("utf-8").startswith("/* ")]
    assert not wrong, "\n".join(wrong)
