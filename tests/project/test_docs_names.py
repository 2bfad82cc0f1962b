"""What README, CONTRIBUTING, SECURITY, docs/ and examples/README name is there: links, anchors, commands with their
options, files, functions. README is short, and its figures are those of the benchmarks.

architecture.md tells the way of a file and of a prediction: its functions are called, in that order. Limits that no
other test checks are checked at the end.
"""

import ast
import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm.cli import commands as cli
from fastbilstm.engine.backends import vector_problem

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "examples/README")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = ("fastbilstm", "ext", "tests", "tools", "benches", "docs", "examples")
FILES = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix != ".pyc"}
README_LINES = 130
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
IDS = {"ids": lambda path: path.relative_to(ROOT).as_posix()}


def prose(path):
    """A page without its blocks."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def spans(path):
    """What stands between backticks in the prose of a page."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(path))]


def test_readme_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


# ---- links ----------------------------------------------------------------------------------------------------------


def anchors(path):
    """The anchors of the headings of a page, as GitHub makes them."""
    found = []
    for heading in re.findall(r"^#+ +(.+)$", prose(path), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", LINK.sub(r"\1", heading).lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return found


@pytest.mark.parametrize("path", PAGES, **IDS)
def test_links_lead_somewhere(path):
    wrong = []
    for _, link in re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", prose(path)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (path.parent / target).resolve() if target else path
        good = file.exists() and file.is_relative_to(ROOT)
        if not good or (anchor and (file.suffix != ".md" or anchor not in anchors(file))):
            wrong.append(link)
    assert wrong == []


def test_an_anchor_that_is_wrong_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# How to `add` a layer: [five](x.md) places\n\n## Twice\n\n## Twice\n\n```sh\n# no heading\n```\n")
    assert anchors(page) == ["how-to-add-a-layer-five-places", "twice", "twice-1"]


def names_in(path):
    """{qualified name: the lines where it may begin} of a Python file."""
    found = {}

    def visit(node, prefix):
        for part in ast.iter_child_nodes(node):
            if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
                lines = {part.lineno, *(decorator.lineno for decorator in part.decorator_list)}
                found[prefix + part.name] = lines
                visit(part, f"{prefix}{part.name}.")
            elif isinstance(part, ast.Assign):
                found.update({prefix + t.id: {part.lineno} for t in part.targets if isinstance(t, ast.Name)})

    visit(ast.parse(path.read_text("utf-8")), "")
    return found


def linked_names(text, path):
    """(name, file) of each link from a name in backticks to a file of the sources."""
    found = [(name.strip("`"), link) for name, link in LINK.findall(text) if name.startswith("`")]
    return [(name, (path.parent / link).resolve()) for name, link in found if ".md" not in link]


def is_defined(name, file):
    if file.as_posix().endswith(f"/{name}"):
        return True
    if file.suffix == ".py":
        return name in names_in(file)
    return re.search(rf"\b{re.escape(name)}\b", file.read_text("utf-8")) is not None


@pytest.mark.parametrize("path", PAGES, **IDS)
def test_names_are_in_the_files_that_they_link_to(path):
    wrong = [f"{name} ({file.name})" for name, file in linked_names(prose(path), path) if not is_defined(name, file)]
    assert wrong == []


# ---- files and commands ---------------------------------------------------------------------------------------------

SUFFIXES = (".py", ".pyi", ".pyx", ".pxd", ".pxi", ".h", ".c")


@pytest.mark.parametrize("path", PAGES, **IDS)
def test_files_that_are_named_are_there(path):
    wrong = []
    for span in spans(path):
        if not re.fullmatch(r"\w[\w./-]+", span):
            continue
        if span.split("/")[0] in FOLDERS and "/" in span:
            wrong += [] if (ROOT / span).exists() else [span]
        elif span.endswith(SUFFIXES):
            wrong += [] if Path(span).name in FILES else [span]
    assert wrong == []


def commands(path):
    """(words of a command, whether it is whole) of the sh blocks, the indented lines and the prose of a page."""
    text = path.read_text(encoding="utf-8")
    lines = [line for kind, code in FENCED.findall(text) if kind == "sh" for line in code.splitlines()]
    lines += re.findall(r"^ {4}((?:make|pip|python|fastbilstm) .*)$", prose(path), re.MULTILINE)
    found = [(line, True) for line in lines if line.strip()]
    found += [(span, False) for span in spans(path) if re.match(r"(make|pip|python|fastbilstm) ", span)]
    for line, whole in found:
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                del words[0]
            yield [words[0].removeprefix(".venv/bin/"), *words[1:]], whole


PARSER = cli.make_parser()
SUBPARSERS = next(action for action in PARSER._actions if action.dest == "command").choices


def problem_of(words, whole):
    """What is wrong with a command, or None."""
    program, *args = words
    if program == "fastbilstm":
        return problem_of_command(args, whole)
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        unknown = [word for word in args if "=" not in word and word not in targets]
        return f"no target {unknown}" if unknown else None
    if program == "pip":
        extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        asked = re.findall(r"^\.\[(.*)\]$", args[-1])
        return None if args[0] == "install" and set(",".join(asked).split(",")) <= {*extras, ""} else "no such extra"
    if program == "python" and args[0] == "-m":
        return None if args[1] in ("pytest", "fastbilstm") else f"module {args[1]}"
    if program == "python":
        script = ROOT / args[0]
        if not script.exists():
            return f"no file {args[0]}"
        text = "".join(
            part.read_text("utf-8") for part in (script, *script.parent.glob("*.py")) if script.name != "setup.py"
        )
        unknown = [word for word in args[1:] if word.startswith("--") and f'"{word}"' not in text]
        return f"no option {unknown}" if unknown and script.name != "setup.py" else None
    if program == "git":
        return problem_of_commit(args)
    return None if program == "ruff" else f"a program that this test does not know: {program}"


def problem_of_command(args, whole):
    if not args or args[0] not in SUBPARSERS:
        return None if args == ["--version"] else f"no command {args[:1]}"
    options = SUBPARSERS[args[0]]._option_string_actions
    unknown = [word for word in args if word.startswith("-") and word not in options]
    if unknown or not whole:
        return f"no option {unknown}" if unknown else None
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            PARSER.parse_args(args)
    except SystemExit:
        return errors.getvalue()
    return None


def problem_of_commit(args):
    """Of `git show --stat HASH`; a checkout without history knows no commit, and none is asked of it."""
    if args[:2] != ["show", "--stat"]:
        return f"git {args}"
    git = ["git", "-C", str(ROOT)]
    shallow = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True)
    if shallow.returncode or shallow.stdout.strip() != "false":
        return None
    shown = subprocess.run([*git, "cat-file", "-e", f"{args[2]}^{{commit}}"], capture_output=True, text=True)
    return shown.stderr or None


@pytest.mark.parametrize("path", PAGES, **IDS)
def test_commands_exist(path):
    found = [(" ".join(words), problem_of(words, whole)) for words, whole in commands(path)]
    assert [(command, problem) for command, problem in found if problem] == []


@pytest.mark.parametrize("path", PAGES, **IDS)
def test_options_in_the_prose_exist(path):
    known = {option for parser in SUBPARSERS.values() for option in parser._option_string_actions}
    given = {span.split()[0] for span in spans(path) if span.startswith("--")}
    assert given - known == set()


@pytest.mark.parametrize(
    "command",
    [
        "fastbilstm konvert model.h5",
        "fastbilstm convert model.h5 --overwrit",
        "fastbilstm report model.h5",
        "make tests",
        "pip install .[konvert]",
        "python tools/konvert.py",
        "python tools/make_support.py --chekc",
        "cargo build",
    ],
)
def test_a_command_that_is_wrong_is_seen(command):
    assert problem_of(shlex.split(command), True)


def test_pages_hold_commands():
    assert all(len(list(commands(ROOT / name))) >= 5 for name in ("README.md", "CONTRIBUTING.md", "docs/using.md"))


# ---- figures of the README ------------------------------------------------------------------------------------------


def rows_of(text, heading):
    """The cells of the table whose first heading is this one."""
    lines = (
        text[re.search(rf"^\| *{re.escape(heading)} *\|", text, re.MULTILINE).start() :].split("\n\n")[0].splitlines()
    )
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_speeds_of_the_readme_are_those_of_the_benchmarks():
    results = rows_of((ROOT / "benches" / "RESULTS.md").read_text("utf-8"), "cell")
    table = rows_of((ROOT / "README.md").read_text("utf-8"), "ms: fastbilstm / best rival")
    assert len(table) >= 9
    short = {"ORT": "ONNX Runtime", "OV": "OpenVINO", "LRT": "LiteRT", "PT": "PyTorch", "TF": "TensorFlow"}
    for net, *cells in table:
        for cell, threads, batch in zip(cells, "1122", ("1", "32") * 2, strict=True):
            found = [row for row in results if row[0].startswith(net) and row[1:3] == [batch, threads]]
            # Of the longer names that begin alike, and of the forms of a net, the best rival.
            found = [row for row in found if row[0] == net or row[0].startswith(f"{net}, ")]
            ours, theirs = float(found[0][3].split()[0]), min(found, key=lambda row: float(row[5]))
            mine, _, rival = cell.partition(" / ")
            number, _, engine = rival.partition(" ")
            assert (float(mine), float(number)) == (ours, float(theirs[5])), (net, threads, batch)
            assert theirs[4].startswith(short[engine]), (net, threads, batch)


# ---- the ways of architecture.md ------------------------------------------------------------------------------------


def steps_of(heading):
    """(file below the package, name) of the first link of each step of a section."""
    path = ROOT / "docs" / "architecture.md"
    section = re.split(r"^## ", path.read_text("utf-8"), flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(f"{heading}\n"))
    return [linked_names(step, path)[0] for step in re.findall(r"^\d+\. (.*)$", text, re.MULTILINE)]


def calls_of(function):
    """{(file, first line): when it was first called} of the package's functions while `function` runs."""
    found = {}

    def note(frame, event, _):
        if event == "call":
            code = frame.f_code
            found.setdefault((code.co_filename, code.co_firstlineno), len(found))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize("heading", ["The way of one file", "The way of one prediction"])
def test_the_way_is_the_one_that_is_told(heading):
    pytest.importorskip("h5py", reason="needs h5py")
    if vector_problem() is not None:
        pytest.skip(f"the way is that of the vector kernels: {vector_problem()}")
    if not Path(fastbilstm.__file__).is_relative_to(ROOT / "fastbilstm"):
        pytest.skip("the package that runs is not the one that the page is about")
    demo = ROOT / "tests" / "golden" / "demo" / "bilstm64.h5"
    model, x = fastbilstm.load(demo), np.ones((2, 400), np.int32)
    calls = calls_of(lambda: fastbilstm.load(demo) if "file" in heading else model.predict(x))
    steps, times = steps_of(heading), []
    for name, file in steps:
        lines = names_in(file)[name]
        times.append(
            min((when for (path, line), when in calls.items() if path == str(file) and line in lines), default=-1)
        )
    told = [name for name, _ in steps]
    assert len(steps) >= 9 and -1 not in times, dict(zip(told, times))
    assert times == sorted(times), dict(zip(told, times))


# ---- CITATION.cff, and limits that no other test checks -------------------------------------------------------------


def test_citation():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    entry = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert entry["cff-version"] == "1.2.0" and entry["title"] == "fastbilstm" and entry["license"] == "MIT"
    assert entry["authors"] == [{"name": "fastbilstm developers"}] and isinstance(entry["message"], str)


def test_addition_of_keras3_goes_by_the_number_of_rows(tmp_path):
    k = pytest.importorskip("keras", reason="needs keras")
    if not k.__version__.startswith("3.") or k.backend.backend() != "tensorflow":
        pytest.skip("needs Keras 3 on TensorFlow")
    i = k.Input((3,))
    model = k.Model(i, i + i[:, :1])
    model.save(tmp_path / "model.keras")
    ours = fastbilstm.load(tmp_path / "model.keras")
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    np.testing.assert_array_equal(ours.predict(x), x + x[:, :1])
    np.testing.assert_array_equal(ours.predict(x[:2]), np.asarray(model(x[:2])))
    np.testing.assert_array_equal(np.asarray(model(x)), x + x[:, 0])  # the first column, along the rows


def test_an_architecture_of_keras3_without_its_version():
    model = fastbilstm.load(mf.weights_h5(), config=mf.sequential() | {"registered_name": None})
    assert model.keras == "keras 3.15" and any("does not say which Keras 3" in note for note in model.graph.notes)


def test_files_of_tf_keras_before_its_own_numbers():
    """2.2.4-tf is computed as later versions of tf.keras are, not as Keras 2.2.4."""
    half = mf.lstm(units=3, return_sequences=True)
    both = mf.layer("Bidirectional", "both", merge_mode="concat", layer=half)
    config = mf.sequential(mf.input_layer(), mf.embedding(), both)
    sides = {
        f"{side}_lstm/{role}": shape
        for side in ("forward", "backward")
        for role, shape in mf.lstm_weights(4, 3).items()
    }
    arrays = mf.weights_of(embedding={"embeddings": (7, 4)}, both=sides)
    y = {v: fastbilstm.load(mf.h5(config, arrays, v)).predict([[1, 2, 0, 0]]) for v in ("2.2.4-tf", "2.15.0", "2.2.4")}
    np.testing.assert_array_equal(y["2.2.4-tf"], y["2.15.0"])
    assert not np.allclose(y["2.2.4-tf"], y["2.2.4"])


def test_what_tensorflow_would_broadcast_is_refused():
    """Keys of one timestep beside longer values; a mask for each unit."""
    sizes = {"q": (None, None, 4), "v": (None, None, 4), "k": (None, None, 4), "m": (None, None, 4)}
    given = {name: mf.input_layer(name, shape, "float32", functional=True) for name, shape in sizes.items()}
    attention = mf.layer("Attention", "attention", ["q", "v", "k"], use_scale=False, score_mode="dot", dropout=0.0)
    config = mf.functional(given["q"], given["v"], given["k"], attention, inputs="qvk", outputs=("attention",))
    model, x = fastbilstm.load(mf.h5(config, {"attention": {}})), np.ones((2, 3, 4), np.float32)
    assert model.predict([x, x, x]).shape == (2, 3, 4)
    with pytest.raises(fastbilstm.InputError):
        model.predict([x, x, x[:, :1]])
    lstm = mf.lstm(units=3)
    lstm["inbound_nodes"] = [[["q", 0, 0, {"mask": ["m", 0, 0]}]]]
    config = mf.functional(given["q"], given["m"], lstm, inputs="qm", outputs=("lstm",))
    model = fastbilstm.load(mf.h5(config, mf.weights_of(lstm=mf.lstm_weights(4, 3))))
    with pytest.raises(fastbilstm.InputError, match=r"its mask has shape \(2, 3, 4\)"):
        model.predict([x, x])
