"""Run the tests in a copy of this project and an environment of its own: the lowest versions, or no GIL.

    python3.10 tools/fresh_tests.py lowest              # `make test-lowest`: each package in the lowest version allowed
    python3.13t tools/fresh_tests.py free-threaded      # `make test-free-threaded`: threads at the same time, for real
    python3.11 tools/fresh_tests.py lowest tests/scoring -k parquet      # what follows is for pytest

The environment is made from the Python that runs this. `lowest` has each package that pyproject.toml names with `>=` in
exactly that version, the build, too. Both lie in build/ with the copy, in which the package is compiled; this folder
stays as it is. For Python 3.13t h5py has no wheel: its source needs HDF5 (Debian: libhdf5-dev). Imports the standard
library only.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ("setuptools", "cython", "wheel")
# What runs on threads, and what each model gives; most others of the tests are about one thread.
THREADS = (
    "tests/engine/test_threads.py",
    "tests/engine/test_late_workers.py",
    "tests/engine/test_number_of_threads.py",
    "tests/engine/test_parallel.py",
    "tests/engine/test_hostile_threads.py",
    "tests/engine/test_replay.py",
    "tests/engine/test_streaming.py",
    "tests/ext",
    "tests/model/test_golden.py",
)
FREE_THREADED = ("h5py", "hypothesis", "numpy", "pytest", "pytest-benchmark", "PyYAML", "scipy", "threadpoolctl")
WITHOUT_GIL = """
import importlib.util, sys
import fastbilstm._kernels
if importlib.util.find_spec("scipy"):
    import fastbilstm._recurrent
sys.exit(sys._is_gil_enabled())
"""


def lowest(text):
    """{package with its extras: lowest version} of all requirements in pyproject.toml but those of bench and docs.

    A requirement reads "name[extra]>=version", with an upper bound or a marker behind it. The extras of this project
    name each other without a version.
    """
    found = {}
    for key, content in re.findall(r"^([\w-]+) = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL):
        for name, version in re.findall(r'"([A-Za-z][\w-]*(?:\[[\w,]+\])?)>=([\d.]+)[^"]*"', content):
            if key not in ("bench", "docs") and found.setdefault(name, version) != version:
                raise SystemExit(
                    f"fresh_tests.py: pyproject.toml allows {name} from {found[name]} on, and from {version}"
                )
    return found


def run(*command, **options):
    words = [str(part) for part in command]
    print(f"$ {' '.join(words)}", flush=True)
    if subprocess.run(words, **options).returncode:
        raise SystemExit(f"fresh_tests.py: {words[0]} failed")


def prepared(kind, packages):
    """The Python of a fresh environment with these packages and the package, compiled in a copy; and the copy."""
    place = ROOT / "build" / kind
    shutil.rmtree(place, ignore_errors=True)
    files = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
    names = subprocess.run(files, check=True, capture_output=True, text=True).stdout
    for name in filter(os.path.isfile, names.rstrip("\0").split("\0")):
        target = place / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, target)
    run(sys.executable, "-m", "venv", place / "venv")
    python = place / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--prefer-binary", *packages)
    run(*pip, "--no-build-isolation", "--no-deps", "--editable", place / "source")
    return python, place / "source"


def main():
    kind, *options = sys.argv[1:] or [""]
    os.environ.pop("PYTHONPATH", None)
    os.chdir(ROOT)
    if kind == "lowest":
        versions = lowest((ROOT / "pyproject.toml").read_text("utf-8"))
        python, source = prepared(kind, [f"{name}=={version}" for name, version in versions.items()])
        tests = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "tests")
    elif kind == "free-threaded":
        if getattr(sys, "_is_gil_enabled", lambda: True)():
            raise SystemExit(f"fresh_tests.py: {sys.executable} has a GIL; start it with a free-threaded Python")
        python, source = prepared(kind, [*BUILD, *FREE_THREADED])
        run(python, "-W", "error", "-c", WITHOUT_GIL, cwd=source)
        os.environ["PYTHON_GIL"] = "0"  # another package's module would switch it on
        tests = THREADS
    else:
        raise SystemExit(__doc__)
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(options or tests), cwd=source)


if __name__ == "__main__":
    main()
