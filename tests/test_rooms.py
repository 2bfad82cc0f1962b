"""The rooms of the package import downwards only: no two files import each other, no room imports a higher one.

Reads the imports with `ast`, those inside functions too; an import that is there for a type checker alone counts as
well. The order is the one that docs/architecture.md draws.
"""

import ast
import itertools
from pathlib import Path

import fastbilstm

PACKAGE = Path(fastbilstm.__file__).parent
# From the ground up; each name is a folder or a file of the package. A room imports what stands before it.
ORDER = [
    *("_version", "errors", "record", "checks", "safe_files", "tolerances", "_kernels", "_recurrent"),
    *("graph", "activations", "layers", "analysis", "inputs", "keras", "engine", "preprocessing", "converted"),
    *("scoring", "model", "loading", "clusters", "report", "cli"),
    *("batches", "dask", "weights_file", "__init__"),
]
MOST_LOOSE_FILES = 14


def modules():
    """{dotted name: path} of every file; the compiled modules by their stubs."""
    paths = [*PACKAGE.rglob("*.py"), *PACKAGE.glob("*.pyi")]
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


def imports_of(name, path, known):
    """(line, module) for each module of the package that a file imports, wherever the import stands."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.split(".")[0] == "fastbilstm"]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(["fastbilstm", *package[: len(package) - node.level + 1], *filter(None, [node.module])])
            found = [f"{base}.{alias.name}" for alias in node.names if base.split(".")[0] == "fastbilstm"]
        else:
            continue
        for full in found:
            yield node.lineno, resolve(full.split(".")[1:], known)


def resolve(parts, known):
    """The file that a dotted name leads to: a module, a package's __init__, or what holds the name."""
    for end in range(len(parts), -1, -1):
        for candidate in (".".join(parts[:end]), ".".join([*parts[:end], "__init__"])):
            if candidate in known:
                return candidate
    raise AssertionError(f"no file for {'.'.join(parts)}")


def room(name):
    return name.split(".")[0]


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
