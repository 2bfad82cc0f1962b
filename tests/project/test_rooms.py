"""The rooms of the package import downwards only: no two files import each other, no room imports a higher one.

Imports inside functions count, and so does an import that is there for a type checker alone. tools/make_rooms.py reads
them and draws docs/figures/rooms.svg of them; the committed figure is that of these imports.
"""

import ast
import itertools
from pathlib import Path

from scripts import load_script

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PACKAGE = ROOT / "fastbilstm"
# From the ground up; each name is a folder or a file of the package. A room imports what stands before it.
ORDER = [
    *("_version", "errors", "record", "checks", "safe_files", "tolerances", "_kernels", "_recurrent"),
    *("graph", "activations", "layers", "analysis", "inputs", "keras", "engine", "preprocessing", "converted"),
    *("scoring", "model", "aio", "loading", "converting", "sample", "clusters", "report", "cli"),
    *("batches", "dask", "weights_file", "__main__", "__init__"),
]
MOST_LOOSE_FILES = 16


make_rooms = load_script(ROOT / "tools" / "make_rooms.py")
modules, imports_of, room = make_rooms.modules, make_rooms.imports_of, make_rooms.room


def test_every_file_stands_in_a_room():
    assert {room(name) for name in modules()} == set(ORDER)


def test_no_room_imports_a_higher_one():
    known = modules()
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {room(name)} imports {target}, which stands above it"
        for name, path in sorted(known.items())
        for line, target in imports_of(name, path, known)
        if ORDER.index(room(target)) > ORDER.index(room(name))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_two_files_import_each_other():
    known = modules()
    arrows = {name: {t: line for line, t in imports_of(name, path, known)} for name, path in known.items()}
    done, wrong = set(), []

    def visit(name, trail):
        if name in trail:
            circle = [*trail[trail.index(name) :], name]
            wrong.append(" -> ".join(f"{a}:{arrows[a][b]}" for a, b in itertools.pairwise(circle)) + f" -> {name}")
        elif name not in done:
            for target in arrows[name]:
                visit(target, [*trail, name])
            done.add(name)

    for name in sorted(known):
        visit(name, [])
    assert not wrong, "a circle (file:line of each import):\n" + "\n".join(wrong)


def test_few_files_are_loose():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_LOOSE_FILES


# ---- the figure -----------------------------------------------------------------------------------------------------


def test_committed_figure_is_that_of_the_imports():
    assert make_rooms.FIGURE.read_text(encoding="utf-8") == make_rooms.figure(), "run tools/make_rooms.py"


def test_figure_follows_the_imports(tmp_path, monkeypatch):
    """Another import makes another figure; an arrow that follows from others is not drawn."""
    for name in ("low", "middle", "high"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f'"""The {name} room."""\n')
    (tmp_path / "middle" / "part.py").write_text('"""A part."""\nfrom ..low import a\n')
    (tmp_path / "high" / "part.py").write_text('"""A part."""\ndef f():\n    from ..middle.part import b\n')
    monkeypatch.setattr(make_rooms, "PACKAGE", tmp_path)
    before = make_rooms.figure()
    assert before.count('class="edge"') == 2 and "The middle room" in before
    with (tmp_path / "high" / "part.py").open("a") as file:
        file.write("from ..low import a\n")
    assert make_rooms.figure() == before
    (tmp_path / "middle" / "part.py").write_text('"""A part."""\n')
    assert make_rooms.figure() != before


def test_imports_inside_functions_say_why():
    """Beside the import, above it, or in the first lines of the file, for all of its imports."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        tree, lines = ast.parse(text), text.splitlines()
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inside = {node.lineno for function in functions for node in ast.walk(function) if is_own_import(node)}
        excused = "Imports inside" in (ast.get_docstring(tree) or "")
        wrong += [f"{path.name}:{n}" for n in inside if not excused and not any("#" in x for x in lines[n - 2 : n])]
    assert not wrong, wrong


def is_own_import(node):
    return isinstance(node, ast.ImportFrom) and node.level > 0
