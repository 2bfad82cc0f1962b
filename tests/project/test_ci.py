""".github/workflows/ci.yml runs what is here, on the Pythons that are promised; tools/fresh_tests.py reads versions.

The jobs themselves run where the project is hosted. Of their commands this looks that they are there.
"""

import itertools
import re
import sys

import pytest
from paths import ROOT, TOOLS
from scripts import load_script

fresh_tests = load_script(TOOLS / "fresh_tests.py")
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")


@pytest.fixture(scope="module")
def jobs():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]


def pythons(job):
    """The Pythons that a job sets up, each as often as it runs."""
    (given,) = (step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    return job["strategy"]["matrix"]["python"] if "matrix.python" in given else given.split()


def test_every_command_is_there(jobs):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    made = {command.split()[1] for command in commands if command.startswith("make ")}
    assert made <= targets and {"test-lowest", "test-free-threaded", "wheels", "sanitize"} <= made
    files = {word for command in commands for word in command.split() if re.match(r"(tests|\.ci|tools)/", word)}
    assert len(files) > 5 and not [name for name in files if not (ROOT / name).exists()]
    assert all(job["timeout-minutes"] <= 90 for job in jobs.values())


def test_each_container_is_built_and_wheels_are_handed_on(jobs):
    found = {path.suffix[1:] for path in (ROOT / "examples" / "containers").iterdir()}
    assert set(jobs["containers"]["strategy"]["matrix"]["base"]) == found
    (built,) = (step["with"] for step in jobs["wheels"]["steps"] if "upload-artifact" in step.get("uses", ""))
    (taken,) = (
        step["with"] for step in jobs["wheels-on-alpine"]["steps"] if "download-artifact" in step.get("uses", "")
    )
    assert built == taken and jobs["wheels-on-alpine"]["needs"] == "wheels"


def test_the_pythons_that_are_promised(jobs):
    """The oldest one with the lowest versions; each Python that has a wheel where the wheels are made."""
    wheels = load_script(TOOLS / "wheels.py")
    (oldest,) = re.findall(r'^requires-python = ">=([\d.]+)"', PYPROJECT, re.MULTILINE)
    assert pythons(jobs["lowest"]) == [oldest] and oldest in pythons(jobs["test"])
    without_gil = {f"{python.first[0]}.{python.first[1]}t" for python in wheels.PYTHONS if python.abi.endswith("t")}
    assert set(pythons(jobs["free-threaded"])) == without_gil
    others = {f"{python.first[0]}.{python.first[1]}" for python in wheels.PYTHONS}  # whose headers the wheels need
    assert without_gil | others <= set(pythons(jobs["wheels"]))


def test_lowest_versions_are_those_of_pyproject():
    """As a parser of TOML and one of requirements read them; the extras bench and docs are for programs of ours."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    packaging = pytest.importorskip("packaging.requirements", reason="needs packaging")
    read = tomllib.loads(PYPROJECT)
    extras = read["project"]["optional-dependencies"]
    lists = [read["build-system"]["requires"], read["project"]["dependencies"]]
    lists += [extra for name, extra in extras.items() if name not in ("bench", "docs")]
    lists.append(read["tool"]["cibuildwheel"]["test-requires"])
    wanted = {}
    for requirement in map(packaging.Requirement, itertools.chain(*lists)):
        if requirement.name != "fastbilstm":
            (lowest,) = (part.version for part in requirement.specifier if part.operator == ">=")
            name = str(requirement).partition(">")[0]  # with its extras
            assert wanted.setdefault(name, lowest) == lowest
    found = fresh_tests.lowest(PYPROJECT)
    assert found == wanted and {"numpy", "h5py", "scipy", "pyarrow", "cython", "setuptools"} <= set(found)
    with pytest.raises(SystemExit, match="allows numpy from 1.24 on, and from 1.25"):
        fresh_tests.lowest(PYPROJECT + 'more = ["numpy>=1.25"]\n')


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="has no GIL")
def test_a_python_with_a_gil_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fresh_tests.py", "free-threaded"])
    with pytest.raises(SystemExit, match="has a GIL; start it with a free-threaded Python"):
        fresh_tests.main()
    assert not [name for name in fresh_tests.THREADS if not (ROOT / name).exists()]
