"""Every block of README, CONTRIBUTING, SECURITY and docs/ runs, in order, in one namespace a file, and prints what it
shows; the `fastbilstm` commands of the pages for users run between them.

Blocks with `>>>` are doctests whose numbers may differ by one in the last digit shown; others pass if they raise
nothing. README runs in an empty folder, the other pages in one that holds tests/golden as the repository does, and
model.h5, the reader's file. Changed is the address of the scheduler of Dask, and the seconds of a report. The blocks
for Spark, Ray and matplotlib (```py) run where these are installed: `make docs-blocks`. The numbers of
from_formula_to_code.md are compared with live Keras besides. What pages name (files, commands, links, functions) is in
test_docs_names.py.
"""

import doctest
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT, TOOLS
from scripts import load_script

import fastbilstm
from fastbilstm.cli import commands as cli
from fastbilstm.engine.backends import vector_problem
from fastbilstm.layers import REGISTRY
from fastbilstm.tolerances import compare

PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FORMULAS = ROOT / "docs" / "from_formula_to_code.md"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Pages for users, whose commands are run; those of the other pages build and test.
FOR_USERS = (
    *("README.md", "json.md", "using.md", "files-and-texts.md", "many-machines.md", "benchmarks.md"),
    "h5-to-service.md",
)
# Pages whose blocks need packages that are optional.
NEEDS = {
    "many-machines.md": ("dask.dataframe", "distributed", "pandas"),
    "README.md": ("h5py", "keras"),
    "using.md": ("h5py",),
    "narrow-weights.md": ("h5py",),
}
WITH_KERAS = ("files-and-texts.md", "kinds-of-files.md", "streaming.md", "entities.md", "own-layer.md")
NEEDS |= dict.fromkeys(WITH_KERAS, ("h5py", "keras"))
NEEDS |= dict.fromkeys(("limits.md", "from_formula_to_code.md", "benchmarks.md", "h5-to-service.md"), ("h5py",))
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?(?![\w])")


class NumberChecker(doctest.OutputChecker):
    """Text must be equal up to white space; whole numbers, too; decimals up to one in the last digit shown."""

    def check_output(self, want, got, flags):
        if super().check_output(want, got, flags | doctest.NORMALIZE_WHITESPACE):
            return True
        text = [re.sub(r"\s+", "", NUMBER.sub("#", side)) for side in (want, got)]
        wanted, found = NUMBER.findall(want), NUMBER.findall(got)
        return text[0] == text[1] and all(map(self._close, wanted, found))

    @staticmethod
    def _close(want, got):
        mantissa, _, exponent = want.partition("e")
        if "." not in want and not exponent:
            return want == got
        unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        return abs(float(want) - float(got)) <= 1.001 * unit


def run_page(path, commands=True):
    """Run all blocks of a page; returns their namespace. Fails on the first that raises or prints something else."""
    text = path.read_text(encoding="utf-8")
    parser, namespace = doctest.DocTestParser(), {}
    for number, match in enumerate(BLOCK.finditer(text), 1):
        kind, code = match.groups()
        line, name = text.count("\n", 0, match.start(2)), f"{path.name}, block {number}"
        if kind == "sh":
            if commands and path.name in FOR_USERS:
                for command in code.splitlines():
                    run_command(shlex.split(command, comments=True), f"{name}: {command}")
            continue
        if ">>>" not in code:
            exec(compile("\n" * line + code, str(path), "exec"), namespace)
            continue
        test = parser.get_doctest(code, namespace, name, str(path), line)
        report = []
        doctest.DocTestRunner(NumberChecker(), verbose=False).run(test, out=report.append, clear_globs=False)
        assert not report, "".join(report)
        namespace.update(test.globs)
    return namespace


def run_command(words, name):
    """Run a command as a user does; fails unless its exit code is 0."""
    if words[:1] != ["fastbilstm"]:
        script = [str(ROOT / word) if word.startswith("tools/") else word for word in words[1:]]
        assert words[0] == "python" and subprocess.run([sys.executable, *script]).returncode == 0, name
        return
    words = words[1:] + (["--seconds", "1"] if words[1] == "report" else [])
    if "--dask" not in words:
        assert cli.main(words) == 0, name
        return
    from distributed import LocalCluster

    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with LocalCluster(silence_logs=50, **options) as cluster:
        words[words.index("--dask") + 1] = cluster.scheduler_address
        assert cli.main(words) == 0, name


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder as the pages assume it: a fresh clone, as far as they read it, and the reader's files."""
    golden = tmp_path / "tests" / "golden"
    for name in ("demo", "seq2seq", "guide.zip", "format_v1.fbl"):
        source = ROOT / "tests" / "golden" / name
        golden.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, golden / name)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("h5py"):
        readers_files(golden / "demo" / "bilstm64.h5")
    with np.printoptions():
        yield tmp_path
    forget_registered()


KNOWN = set(REGISTRY)


def forget_registered():
    """Take out of the registry what a page registered."""
    for name in set(REGISTRY) - KNOWN:
        del REGISTRY[name]


def readers_files(source):
    """model.h5, which holds weights and architecture, and weights.h5 and model.json, which hold one each."""
    import h5py

    shutil.copyfile(source, "model.h5")
    with h5py.File(source) as file, h5py.File("weights.h5", "w") as weights:
        Path("model.json").write_text(file.attrs["model_config"])
        weights.attrs.update(file["model_weights"].attrs)
        for name in file["model_weights"]:
            file.copy(f"model_weights/{name}", weights)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_code_of_the_page_runs_and_runs_again(path, folder, monkeypatch):
    for module in NEEDS.get(path.name, ()):
        pytest.importorskip(module, reason=f"{path.name} needs {module}")
    if path.name == "README.md":
        monkeypatch.chdir("empty")
    run_page(path)
    forget_registered()
    if path != FORMULAS:  # which takes long, and writes nothing
        run_page(path, commands=path.name == "README.md")


def blocks_with_packages():
    """(package, code) of the ```py blocks; each comes with the ```python blocks of its page."""
    packages, found = {"many-machines.md": ("pyspark", "ray"), "see-inside.md": ("matplotlib",)}, []
    for path in PAGES:
        text = path.read_text("utf-8")
        blocks = re.findall(r"^```py\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        before = "".join(
            code for kind, code in BLOCK.findall(text) if kind == "python" and path.name == "see-inside.md"
        )
        found += [(name, before + code) for name, code in zip(packages.get(path.name, ()), blocks, strict=True)]
    return found


@pytest.mark.parametrize("package, code", blocks_with_packages(), ids=lambda value: value if value.isalpha() else "")
def test_blocks_that_need_other_packages(package, code, folder):
    if os.environ.get("FASTBILSTM_DOCS") != "all":
        pytest.importorskip(package, reason=f"needs {package}: make docs-blocks")
    fastbilstm.sample_model().save("reviews.fbl")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "svg", "PYSPARK_PYTHON": sys.executable}
    run = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr


def test_the_pages_hold_code():
    counts = {path.name: len(BLOCK.findall(path.read_text(encoding="utf-8"))) for path in PAGES}
    assert counts["README.md"] == 3 and counts["from_formula_to_code.md"] >= 12
    for name, blocks in (
        ("using", 6),
        ("files-and-texts", 4),
        ("many-machines", 1),
        ("serving", 2),
        ("fbl-format", 3),
        ("limits", 1),
        ("kinds-of-files", 4),
        ("coming-from", 1),
        ("questions", 1),
    ):
        assert counts[f"{name}.md"] >= blocks


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_fence_is_closed_and_blocks_that_are_not_run_compile(path):
    text = path.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    assert set(re.findall(r"^```(.+)$", text, re.MULTILINE)) <= {"python", "py", "sh"}
    for code in re.findall(r"^```py\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        compile(code, str(path), "exec")


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "figures").glob("*")), ids=lambda path: path.name)
def test_figures_are_small_and_used(path):
    assert path.stat().st_size < 150_000
    assert any(f"figures/{path.name}" in page.read_text(encoding="utf-8") for page in PAGES)


def test_figure_of_ratios_is_drawn_from_the_results_of_the_benchmarks():
    """If this fails: python tools/make_ratio_figure.py."""
    header = json.loads((ROOT / "benches" / "results.json").read_text("utf-8"))["header"]
    drawn = (ROOT / "docs" / "figures" / "ratios.svg").read_text("utf-8")
    assert f"{header['CPU']}; {header['date']}; commit {header['commit']}." in drawn


@pytest.mark.parametrize(
    "want, got, same",
    [
        ("0.1234", "0.1235", True),
        ("0.1234", "0.1237", False),
        ("[-0.02  ]", "[-0.0201]", True),
        ("3 rows", "4 rows", False),
        ("1.0e-05", "1.1e-05", True),
        ("1e-05", "3e-05", False),
        ("array([1.5])", "array([1.5, 1.5])", False),
        ("0.5", "nan", False),
        ("True 0.5", "False 0.5", False),
    ],
)
def test_the_checker_can_fail(want, got, same):
    assert NumberChecker().check_output(f"{want}\n", f"{got}\n", 0) is same


def test_a_wrong_page_fails(tmp_path):
    for code, error in (("assert 1 == 2", AssertionError), (">>> 1 + 1\n3", AssertionError), ("x", NameError)):
        page = tmp_path / "page.md"
        page.write_text(f"# Page\n\n```python\n{code}\n```\n")
        with pytest.raises(error):
            run_page(page)


# ---- support.md -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make_support():
    return load_script(TOOLS / "make_support.py")


def test_support_page_is_what_the_script_makes(make_support):
    problem = vector_problem()
    if problem is not None:
        pytest.skip(f"the page tells what the kernels run: {problem}")
    assert make_support.PAGE.read_text(encoding="utf-8") == make_support.page(), "run tools/make_support.py"


@pytest.mark.parametrize("framework, version", [("keras", "3.15"), ("tf_keras", "2.21")])
def test_the_script_lists_all_layers_of_keras(make_support, framework, version):
    found = pytest.importorskip(framework, reason=f"needs {framework}")
    if not found.__version__.startswith(version):
        pytest.skip(f"the list is that of {framework} {version}")
    classes = [value for value in vars(found.layers).values() if isinstance(value, type)]
    names = {kind.__name__ for kind in classes if issubclass(kind, found.layers.Layer)}
    assert names - set(make_support.LAYERS) == set()


# ---- the numbers of from_formula_to_code.md are Keras' ----------------------------------------------------------


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request):
    return pytest.importorskip(request.param, reason=f"needs {request.param}")


@pytest.fixture
def page(folder):
    return run_page(FORMULAS)


def answer(layer, weights, x, mask=None):
    """What a Keras layer with these weights answers: an array or a list of them."""
    layer.build(x.shape)
    layer.set_weights(list(weights))
    y = layer(x.astype(np.float32), mask=mask)
    return [np.asarray(part) for part in y] if isinstance(y, list | tuple) else np.asarray(y)


def check(ours, theirs):
    result = compare(ours, theirs, "float32")
    assert result.ok, result.message


def example(page):
    """The unmasked input of the page, and its weights for one LSTM, one backwards and a Bidirectional."""
    x = np.cos(np.arange(4 * page["FEATURES"])).reshape(1, 4, page["FEATURES"])
    return x, page["forward"], page["backward"], [*page["forward"], *page["backward"]]


def test_lstm_is_that_of_keras(page, keras):
    x, forward, _, _ = example(page)
    layer = keras.layers.LSTM(page["UNITS"], return_sequences=True, return_state=True)
    y, h, c = answer(layer, forward, x)
    outputs, last, final_h, final_c = page["lstm"](x, *forward)
    for ours, theirs in ((outputs, y), (final_h, h), (final_c, c), (last, y[:, -1])):
        check(ours, theirs)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
def test_merge_modes_are_those_of_keras(page, keras, mode):
    x, forward, backward, weights = example(page)
    layer = keras.layers.Bidirectional(keras.layers.LSTM(page["UNITS"], return_sequences=True), merge_mode=mode)
    theirs, ours = answer(layer, weights, x), page["bidirectional"](x, forward, backward, mode)
    for y, k in zip(ours, theirs, strict=True) if mode is None else [(ours, theirs)]:
        check(y, k)


def test_last_outputs_and_the_net_built_by_hand_are_those_of_keras(page, keras):
    x, forward, backward, weights = example(page)
    y, y_reverse = page["bidirectional"](x, forward, backward, None)
    last = answer(keras.layers.Bidirectional(keras.layers.LSTM(page["UNITS"])), weights, x)
    check(np.concatenate([y[:, -1], y_reverse[:, 0]], axis=-1), last)
    halves = (({}, forward), ({"go_backwards": True}, backward))
    layers = [(keras.layers.LSTM(page["UNITS"], return_sequences=True, **options), w) for options, w in halves]
    check(page["by_hand"], np.concatenate([answer(layer, w, x) for layer, w in layers], axis=-1))


def test_masked_outputs_are_those_of_keras(page, keras):
    """LSTM emits the output before, Bidirectional zeros; states do not depend on where the padding is."""
    tokens, mask, forward = page["tokens"], page["MASK"], page["forward"]
    x = np.full((*mask.shape, tokens.shape[1]), 9.0)
    for row in range(3):
        x[row, mask[row]] = tokens
    outputs, _, h, _ = page["lstm"](x, *forward, mask=mask)
    layer = keras.layers.LSTM(page["UNITS"], return_sequences=True, return_state=True)
    y, final_h, _ = answer(layer, forward, x, mask)
    check(outputs, y)
    check(h, final_h)
    layer = keras.layers.Bidirectional(keras.layers.LSTM(page["UNITS"], return_sequences=True))
    weights = [*forward, *page["backward"]]
    check(page["masked_bidirectional"](x, mask, "zero"), answer(layer, weights, x, mask))
