"""From source to an installed package: the build log, the wheel's contents and size, what an import pulls in.

Everything is built from a copy of the sources in a temporary folder, without a network; the project itself stays as it
is. Needs the build requirements (the extra `test` holds them).
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from paths import DEMO, ROOT
from scripts import load_script

from fastbilstm.engine import backends

MAX_BYTES = 5_000_000
# file.c:1:2: warning: ... / warning: file.pyx:1:2: ... / performance hint: ... / cc1: warning: ...
WARNING = re.compile(
    r"\.[ch][:(]\d+.*warning|warning: .*\.p(yx|xd)|performance hint|(cc1|ld|clang|gcc): .*warning", re.I
)
BUILT = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
OPTIONAL = ("h5py", "scipy", "yaml")


def run(*command, cwd, path=None, **variables):
    """Run a command with only `path` on PYTHONPATH; its output, both streams together. Fails with it."""
    env = {**os.environ, **variables}
    env.pop("PYTHONPATH", None)
    if path is not None:
        env["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def copy_sources(target):
    """The files a build reads, in `target`; nothing that an earlier build left."""
    target.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for name in ("fastbilstm", "ext"):
        shutil.copytree(ROOT / name, target / name, ignore=BUILT)
    return target


@pytest.fixture(scope="session")
def build_requirements():
    for name in ("Cython", "setuptools"):
        pytest.importorskip(name, reason=f"building needs {name}")


@pytest.fixture(scope="session")
def wheel(build_requirements, tmp_path_factory):
    """(path of a fresh wheel, log of its build)."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_sources(folder / "source")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    log = run(*pip, "wheel", "-v", "--no-build-isolation", "--no-deps", "-w", folder / "dist", source, cwd=folder)
    (path,) = (folder / "dist").glob("*.whl")
    return path, log


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--no-index", "--no-deps", "--no-compile", "--target", target, wheel[0], cwd=target)
    return target


def run_tests(folder, lib, names, *options):
    """Run test files of this project against the package in `lib` alone; the report."""
    tests = folder / "tests"
    tests.mkdir(parents=True, exist_ok=True)
    (tests / "golden").symlink_to(ROOT / "tests" / "golden", target_is_directory=True)
    for name in (*names, "material"):
        source, target = ROOT / "tests" / name, tests / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, ignore=BUILT) if source.is_dir() else shutil.copy(source, target)
    pytest_command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml")
    material = f"pythonpath={tests / 'material'}"
    return run(*pytest_command, "--rootdir", tests, "-o", material, *options, tests, cwd=folder, path=lib)


def test_build_has_no_warnings(wheel):
    """Neither Cython nor the C compiler has anything to say about our code under -Wall -Wextra."""
    log = wheel[1]
    assert "_recurrent.c" in log and ("-Wextra" in log or "/W3" in log), log
    found = [line for line in log.splitlines() if WARNING.search(line)]
    assert not found, "\n".join(found)


def test_cython_warning_fails_the_build(build_requirements, tmp_path):
    """A nogil function without noexcept makes Cython take the GIL, and say so."""
    source = copy_sources(tmp_path / "source")
    blas = source / "ext" / "_blas.pxi"
    text = blas.read_text()
    changed = text.replace(") noexcept nogil:", ") nogil:")
    assert changed != text
    blas.write_text(changed)
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "temp"]
    done = subprocess.run(command, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode != 0 and "setup.py: Cython warned" in done.stdout, done.stdout


def test_kernels_under_bounds_checks(build_requirements, tmp_path):
    """The tests of the kernels again, with the build of FASTBILSTM_DEBUG=1; an index out of bounds raises there."""
    source = copy_sources(tmp_path / "source")
    log = run(sys.executable, "setup.py", "build", "--build-lib", "lib", cwd=source, FASTBILSTM_DEBUG="1")
    assert "-O1" in log or "/Od" in log
    lib = source / "lib"
    where = run(sys.executable, "-c", "import fastbilstm._recurrent as m; print(m.__file__)", cwd=tmp_path, path=lib)
    assert Path(where.strip()).is_relative_to(lib)
    names = ("ext", "engine/test_blas_layers.py", "engine/test_plan.py")
    report = run_tests(tmp_path, lib, names, "-k", "not largest_error and not other_threads and not header")
    assert re.search(r"\d{3,} passed", report) and "failed" not in report, report


WITHOUT_VECTORS = """
import sys
from pathlib import Path
import fastbilstm, numpy as np

demo, x = Path(sys.argv[1]).read_bytes(), np.ones((2, 400), np.int32)
fastbilstm.show_config()
try:
    fastbilstm.load(demo, backend="vector")
except RuntimeError as error:
    print("refused:", error)
for missing in ({}, dict.fromkeys(["scipy"])):
    sys.modules.update(missing)
    model = fastbilstm.load(demo)
    print(model.backend, model.predict(x).shape)
"""


def test_build_without_vector_kernels(build_requirements, tmp_path):
    """As compilers without vector types build it: `auto` takes BLAS, or the specification where SciPy is missing."""
    for name in ("h5py", "threadpoolctl"):
        pytest.importorskip(name, reason=f"the demo on backend blas needs {name}")
    source = copy_sources(tmp_path / "source")
    log = run(sys.executable, "setup.py", "build", "--build-lib", "lib", cwd=source, FASTBILSTM_NO_VECTORS="1")
    assert not [line for line in log.splitlines() if WARNING.search(line)], log
    lib = source / "lib"
    report = run(sys.executable, "-c", WITHOUT_VECTORS, DEMO, cwd=tmp_path, path=lib)
    problem = "this fastbilstm was built without vector kernels: they need GCC or Clang"
    assert f"\nbackend vector: {problem}\nbackend blas: available\n" in report
    assert report.endswith(f"\nrefused: {problem}\nblas (2, 1)\nnumpy (2, 1)\n")
    names = ("inputs/test_model_input.py", "model/test_stateful.py", "engine/test_plan.py")
    report = run_tests(tmp_path, lib, names)
    assert re.search(r"\d{2,} passed, 1 skipped", report) and "no vector kernels" in report, report


# Where this project is installed in place, its finder would find the modules that are missing.
NOT_EDITABLE = """
import sys
sys.meta_path[:] = [found for found in sys.meta_path if "editable" not in getattr(found, "__module__", "")]
"""
WITHOUT_COMPILER = """
import sys, warnings
from pathlib import Path
import fastbilstm, numpy as np

demo, x = Path(sys.argv[1]).read_bytes(), np.ones((2, 400), np.int32)
with warnings.catch_warnings(record=True) as caught:
    for _ in range(3):
        model = fastbilstm.load(demo, n_threads=4)
    fastbilstm.load(demo, backend="numpy")
print(model.backend, model.predict(x).shape, *(str(warning.message) for warning in caught), sep="|")
print(model.summary())
fastbilstm.show_config()
for backend in ("vector", "blas"):
    try:
        fastbilstm.load(demo, backend=backend)
    except RuntimeError as error:
        print("refused:", error)
"""


def test_install_without_a_compiler(build_requirements, tmp_path):
    """One warning while it is installed and one where it runs; the numbers are Keras'."""
    pytest.importorskip("h5py", reason="the demo is a Keras file")
    source, lib, nothing = copy_sources(tmp_path / "source"), tmp_path / "lib", tmp_path / "nothing"
    nothing.mkdir()
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-v")
    where = ("--no-build-isolation", "--no-deps", "--no-index", "--target", lib, source)
    log = run(*pip, *where, cwd=tmp_path, PATH=nothing, FASTBILSTM_COMPILE="")
    found = [line for line in log.splitlines() if "warning: " in line and "byte-compiling" not in line]
    assert len(found) == 1, "\n".join(found)
    assert "there is no C compiler" in found[0] and "'vector'" in found[0] and "in NumPy" in found[0]
    assert not list(lib.rglob("*.so")) and not list(lib.rglob("*.pyd"))
    (lib / "sitecustomize.py").write_text(NOT_EDITABLE)
    report = run(sys.executable, "-W", "default", "-c", WITHOUT_COMPILER, DEMO, cwd=tmp_path, path=lib)
    problem = backends.WITHOUT_COMPILED_MODULES
    assert report.startswith(f"numpy|(2, 1)|{problem}. Models run in NumPy") and report.count("Models run in") == 1
    assert "by backend numpy" in report and f"\nbackend vector: {problem}\nbackend blas: {problem}\n" in report
    assert "\nthreads: 1 " in report and report.endswith(2 * f"refused: {problem}\n")
    report = run_tests(tmp_path, lib, ["model/test_golden.py"], "-k", "test_golden_case and (guide or lstm-options)")
    assert re.search(r"\d{2,} passed", report) and "failed" not in report, report


def test_wheel_contents(wheel):
    with zipfile.ZipFile(wheel[0]) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        head = Parser().parsestr(archive.read(metadata).decode())
    package = {name for name in names if name.startswith("fastbilstm/")}
    assert {name.split("/")[0] for name in names} == {"fastbilstm", metadata.split("/")[0]}
    compiled = {name for name in package if name.endswith((".so", ".pyd"))}
    assert package - compiled == load_script(ROOT / "tools" / "wheels.py").package_files()
    assert sorted(name.split(".")[0] for name in compiled) == ["fastbilstm/_kernels", "fastbilstm/_recurrent"]
    assert f"{metadata.split('/')[0]}/licenses/LICENSE" in names
    version = re.search(r'__version__ = "(.+)"', (ROOT / "fastbilstm" / "_version.py").read_text()).group(1)
    assert (head["Name"], head["Version"], head["License-Expression"]) == ("fastbilstm", version, "MIT")
    required = [r for r in head.get_all("Requires-Dist") if "extra ==" not in r]
    assert [re.split(r"[^\w-]", r)[0] for r in required] == ["numpy"]
    assert {"convert", "yaml", "blas", "test", "bench", "all"} <= set(head.get_all("Provides-Extra"))


def test_sizes(wheel, installed):
    assert wheel[0].stat().st_size <= MAX_BYTES
    assert sum(path.stat().st_size for path in installed.rglob("*") if path.is_file()) <= MAX_BYTES


def test_installed_package_runs(installed, tmp_path):
    python = "import fastbilstm; print(fastbilstm.__file__, fastbilstm.__version__)"
    file, version = run(sys.executable, "-c", python, cwd=tmp_path, path=installed).split()
    assert Path(file).is_relative_to(installed)
    (script,) = (path for path in (installed / "bin").glob("fastbilstm*"))
    for command in ((sys.executable, "-m", "fastbilstm.cli"), (script,)):
        text = run(*command, "--help", cwd=tmp_path, path=installed)
        for word in ("convert", "inspect", "verify", "predict"):
            assert word in text
        assert version in run(*command, "--version", cwd=tmp_path, path=installed)


def test_converted_model_needs_numpy_alone(installed, tmp_path):
    """Converted with h5py; loaded and run where h5py, SciPy and PyYAML cannot be imported."""
    backend = "numpy" if backends.vector_problem() else "vector"
    pytest.importorskip("h5py", reason="converting needs h5py")
    run(sys.executable, "-m", "fastbilstm.cli", "convert", DEMO, "m.fbl", cwd=tmp_path, path=installed)
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
        "import fastbilstm, numpy as np\n"
        "model = fastbilstm.load('m.fbl', check=True)\n"
        "print(model.backend, model.predict(np.ones((2, 400), np.int32)).shape)"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path, path=installed) == f"{backend} (2, 1)\n"


def test_the_first_answer_needs_numpy_alone(installed, tmp_path):
    """The first block of README, from the wheel, in an empty folder; and the same on the command line."""
    block = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)[1]
    code = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n{block}\nprint(fastbilstm.sample.FOLDER)"
    folder = run(sys.executable, "-c", code, cwd=tmp_path, path=installed).strip()
    assert "classify" in block and Path(folder).is_relative_to(installed)
    command = (sys.executable, "-m", "fastbilstm", "predict", Path(folder) / "sample.fbl", "--text", "a boring film")
    assert run(*command, cwd=tmp_path, path=installed).startswith("neg\t")


def imported(statement, cwd, path):
    """Names of the top-level modules outside the standard library after a statement in a fresh interpreter."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(run(sys.executable, "-c", code, cwd=cwd, path=path).split()) - set(sys.stdlib_module_names)


def test_import_pulls_in_numpy_alone(installed, tmp_path):
    assert all(importlib.util.find_spec(name) for name in OPTIONAL), "an absent package proves nothing"
    before = imported("import numpy", tmp_path, installed)
    after = imported("import fastbilstm", tmp_path, installed)
    assert after - before == {"fastbilstm"}
    assert not after & set(OPTIONAL)


# ---- five users, from the wheel, each in an empty folder; the machine without a compiler is above --------------------

SERVICE = """
import asyncio, json
import fastbilstm

model = fastbilstm.sample_model(n_threads=1)

async def main():
    async with fastbilstm.aio.Batcher(model) as batcher:
        texts = ["a wonderful film", "a boring film"] * 20
        rows = model.text.encode(texts)
        scores = await asyncio.gather(*map(batcher.predict, rows))
    return [float(score[0]) for score in scores]

scores = asyncio.run(main())
assert len(scores) == 40 and scores[0] > 0.5 > scores[1]
print(json.dumps(model.classify(["a wonderful film"])[0]))
"""
ANALYST = """
import gzip, subprocess, sys
from pathlib import Path
from fastbilstm import sample

texts = ["a wonderful film", "a boring film", "the worst, truly", "great actors; great story", ""]
with gzip.open("reviews.csv.gz", "wt", encoding="utf-8") as file:
    file.write("id;review\\n")
    file.writelines(f'{row};"{texts[row % 5]}"\\n' for row in range(200_000))
model = Path(sample.FOLDER) / "sample.fbl"
line = [sys.executable, "-m", "fastbilstm", "predict", model, "reviews.csv.gz", "--text-column", "review"]
done = subprocess.run([*line, "--empty", "null", "-o", "scored.tsv"], capture_output=True, text=True)
assert done.returncode == 0 and "40000" in done.stderr.replace(",", ""), done.stderr
rows = [row.split("\\t") for row in Path("scored.tsv").read_text().splitlines()]
assert len(rows) == 200_001 and rows[0][:3] == ["id", "review", "prediction"]
assert [row[2] for row in rows[1:6]] == ["pos", "neg", "neg", "pos", ""]
print("ok")
"""
# The blocks of a page; what they print is compared in test_docs.py.
READER = """
import doctest, re, sys
from pathlib import Path

names = {"__name__": "page"}
for block in re.findall(r"^```python\\n(.*?)^```$", Path(sys.argv[1]).read_text("utf-8"), re.DOTALL | re.MULTILINE):
    if ">>>" in block:
        block = "".join(example.source for example in doctest.DocTestParser().get_examples(block))
    exec(compile(block, sys.argv[1], "exec"), names)
import fastbilstm
print(fastbilstm.__file__)
"""


def test_journey_of_a_service(installed, tmp_path):
    answer = json.loads(run(sys.executable, "-c", SERVICE, cwd=tmp_path, path=installed))
    assert answer["label"] == "pos" and set(answer) == {"label", "score", "scores"}


def test_journey_of_an_analyst(installed, tmp_path):
    assert run(sys.executable, "-c", ANALYST, cwd=tmp_path, path=installed) == "ok\n"


@pytest.mark.parametrize("page", ["tutorials/entities.md", "from_formula_to_code.md"])
def test_journey_of_a_reader(page, installed, tmp_path):
    """The engineer of named entities, and who wants to know what an LSTM computes."""
    if page == "tutorials/entities.md":
        pytest.importorskip("keras", reason="the tagger is made in Keras")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "golden").symlink_to(ROOT / "tests" / "golden", target_is_directory=True)
    found = run(sys.executable, "-c", READER, ROOT / "docs" / page, cwd=tmp_path, path=installed)
    assert Path(found.splitlines()[-1]).is_relative_to(installed)
