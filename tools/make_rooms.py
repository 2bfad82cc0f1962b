"""Draw docs/figures/rooms.svg: the rooms of the package and which of them imports which, read from the imports.

    python tools/make_rooms.py [--check] [--out FILE]

A room is a folder of the package or a file beside the folders. The files of the ground are one box, the compiled
modules another, the files that nothing imports a third. An arrow that follows from other arrows is left out. `--check`
compares the committed figure instead of writing it. test_rooms.py reads the imports with this file, too. Imports
fastbilstm and the standard library.
"""

import argparse
import ast
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fastbilstm"
FIGURE = ROOT / "docs" / "figures" / "rooms.svg"
sys.path[:0] = [str(ROOT)]

GROUND, COMPILED, NAMES = "ground", "compiled modules", "public names"
GROUND_FILES = {"_version", "checks", "errors", "record", "tolerances"}
PURPOSE = {
    GROUND: "Every room may import these files: ",
    COMPILED: "Cython and C of ext/: ",
    NAMES: "What users and older pickles import: ",
}
# Characters of a line in a box, and of the longest purpose that is not cut at its colon.
LINE, LONGEST = 36, 80
STYLE = (
    "text{font:11.5px 'DejaVu Sans',Verdana,sans-serif;text-anchor:middle;fill:#3d3d3d}"
    "text.name{font-weight:bold;font-size:12px}rect{fill:#f7f9fc;stroke:#2f6db3;stroke-width:1.3}"
    ".plain rect{fill:#f5f5f3;stroke:#777}.edge{fill:none;stroke:#777;stroke-width:1.2}.tip{fill:#777}"
)


# ---- imports --------------------------------------------------------------------------------------------------------


def modules():
    """{dotted name: path} of every file of the package; the compiled modules by their stubs."""
    paths = [*PACKAGE.rglob("*.py"), *PACKAGE.glob("*.pyi")]
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(paths)}


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
    """The room of a module: the first part of its dotted name."""
    return name.split(".")[0]


def room_imports(known):
    """{room: the other rooms that it imports}."""
    found = {room(name): set() for name in known}
    for name, path in known.items():
        found[room(name)] |= {room(target) for _, target in imports_of(name, path, known)} - {room(name)}
    return found


# ---- the figure -----------------------------------------------------------------------------------------------------


def gathered(known):
    """({box: the boxes it imports}, {box: its loose files}) with the files of a kind in one box each."""
    arrows = room_imports(known)
    folders = {room(name) for name in known if "." in name}
    compiled = {name for name, path in known.items() if path.suffix == ".pyi"}
    used = set().union(*arrows.values())
    names = {r for r in arrows if r not in folders | compiled | used}
    kinds = {COMPILED: compiled, GROUND: GROUND_FILES, NAMES: names}
    box_of = {r: next((box for box, members in kinds.items() if r in members), r) for r in arrows}
    boxes = {box_of[r]: set() for r in sorted(arrows)}
    for r, targets in arrows.items():
        boxes[box_of[r]] |= {box_of[t] for t in targets} - {box_of[r]}
    return boxes, kinds


def reduced(arrows):
    """The arrows without those that follow from others."""

    def reach(box):
        return {box}.union(*(reach(target) for target in arrows[box]))

    return {
        box: {t for t in targets if not any(t in reach(other) for other in targets - {t})}
        for box, targets in arrows.items()
    }


def purpose(path):
    """The first sentence of a module's docstring; of a long one what stands before its colon."""
    first = " ".join(ast.get_docstring(ast.parse(path.read_text("utf-8"))).split()).replace("`", "")
    sentence = re.split(r"\.(?:\s|$)", first)[0]
    return sentence if len(sentence) <= LONGEST else sentence.split(": ")[0]


def lines_of(box, kinds, known):
    """What stands in a box: its name, then its purpose."""
    if box in kinds:
        files = [PACKAGE.name if name == "__init__" else f"{PACKAGE.name}.{name}" for name in sorted(kinds[box])]
        if box != NAMES:
            files = [known[name].name.replace(".pyi", "") for name in sorted(kinds[box])]
        return (box, *textwrap.wrap(PURPOSE[box] + ", ".join(files), LINE))
    path = known.get(f"{box}.__init__") or known[box]
    name = f"{box}/" if path.name == "__init__.py" else path.name
    return (name, *textwrap.wrap(purpose(path), LINE))


def figure():
    """The figure as text."""
    from fastbilstm.report.graph_drawing import BOLD, PADDING, PLAIN, Box, arrange

    known = modules()
    arrows, kinds = gathered(known)
    arrows = reduced(arrows)
    order = []

    def visit(box):
        if box not in order:
            for target in sorted(arrows[box]):
                visit(target)
            order.append(box)

    for box in sorted(arrows):
        visit(box)
    boxes = {}
    for box in reversed(order):
        lines = lines_of(box, kinds, known)
        width = max(len(line) * (PLAIN if k else BOLD) for k, line in enumerate(lines)) + 2 * PADDING
        kind = "plain" if box in kinds else ""
        boxes[box] = Box(lines, kind, ", ".join(sorted(arrows[box])), width=width, height=16 * len(lines) + PADDING)
        boxes[box].title = f"imports {boxes[box].title}" if arrows[box] else "imports nothing"
    edges = [(boxes[box], boxes[target], False, []) for box in boxes for target in sorted(arrows[box])]
    body, width, height = arrange(list(boxes.values()), edges)
    size = f"{width:.0f} {height:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {size}">\n'
        f"<title>The rooms of fastbilstm and their imports</title>\n<style>{STYLE}</style>\n"
        f'<path d="M0 0h{width:.0f}v{height:.0f}h-{width:.0f}z" fill="#fff"/>\n'
        + body.replace("<path", "\n<path").replace("<g", "\n<g").lstrip()
        + "\n</svg>\n"
    )


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say whether the committed figure is up to date")
    parser.add_argument("--out", type=Path, default=FIGURE, help="file to write (default: docs/figures/rooms.svg)")
    args = parser.parse_args(argv)
    text = figure()
    if args.check:
        same = args.out.exists() and args.out.read_text(encoding="utf-8") == text
        print(f"{args.out}: {'up to date' if same else 'out of date; run tools/make_rooms.py'}")
        return 0 if same else 1
    args.out.write_text(text, encoding="utf-8")
    print(f"{args.out}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
