"""What leaves this project: the source archive, the wheels that cibuildwheel is told to build, clang-cl on Windows.

Nothing is fetched. Whole wheels for Windows and macOS are not built here.
"""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile

import pytest
from c_headers import HEADERS
from paths import MATERIAL, ROOT


@pytest.fixture
def cibuildwheel():
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]


def test_build_needs_setuptools_and_cython():
    """Neither NumPy nor SciPy: their declarations are not used, and the functions of BLAS are taken at run time."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {requirement.split(">")[0] for requirement in required} == {"setuptools", "cython"}
    sources = [path for path in (ROOT / "ext").iterdir() if path.suffix in (".pyx", ".pxi", ".pxd")]
    assert len(sources) > 10
    for path in sources:
        found = re.findall(r"cimport (?:numpy|scipy)|from (?:numpy|scipy)\S* cimport|numpy/", path.read_text())
        assert not found, f"{path.name}: {found}"


def test_wheels_that_are_built(cibuildwheel):
    """Those for Linux come from tools/wheels.py."""
    assert cibuildwheel["build"] == "cp3??-*" and "linux" not in cibuildwheel
    assert set(cibuildwheel["macos"]["archs"]) == {"x86_64", "arm64"}
    compiled = {"FASTBILSTM_COMPILE": "1"}  # without a compiler, no wheel
    assert cibuildwheel["environment"] == compiled
    environment = {"FASTBILSTM_CLANG_CL": "clang-cl", **compiled}
    assert cibuildwheel["windows"] == {"archs": ["AMD64"], "environment": environment}


# In cibuildwheel's command all tests of its files run; here a sample of each, or all with FASTBILSTM_WHEEL_TESTS=all.
SAMPLE = "yaml or instruction or matmul_of_nothing or in_order"


def run_wheel_tests(cibuildwheel, required, *options):
    """The test command, where nothing can be imported but what is required; (exit code, report)."""
    pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
    command = cibuildwheel["test-command"].replace("\\\n", " ").replace("{project}", str(ROOT)).split()
    assert command[0] == "python"
    names = [re.match(r"[\w.-]+", requirement)[0] for requirement in required]
    paths = os.pathsep.join([str(MATERIAL), str(ROOT)])
    env = {**os.environ, "ONLY_REQUIRED": " ".join([*names, "fastbilstm", "numpy"]), "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, *command[1:], "-p", "only_required", *options],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_wheels_are_tested(cibuildwheel):
    """The test command passes with what its environment holds: no more than its requirements."""
    for requirement in cibuildwheel["test-requires"]:
        name = re.match(r"[\w.-]+", requirement)[0]
        pytest.importorskip({"PyYAML": "yaml", "pytest-benchmark": "pytest_benchmark"}.get(name, name))
    every = os.environ.get("FASTBILSTM_WHEEL_TESTS") == "all"
    code, report = run_wheel_tests(cibuildwheel, cibuildwheel["test-requires"], *(() if every else ("-k", SAMPLE)))
    assert code == 0 and re.search(rf"\d{{{4 if every else 2},}} passed", report), report


def test_wheel_tests_see_a_missing_requirement(cibuildwheel):
    required = [each for each in cibuildwheel["test-requires"] if not each.startswith("PyYAML")]
    golden = [part for part in cibuildwheel["test-command"].split() if "/tests/" not in part or "golden" in part]
    command = {"test-command": " ".join(golden)}
    code, report = run_wheel_tests(command, required, "-k", "siamese_weights_h5_yaml")
    assert code == 1 and "as YAML it) needs PyYAML" in report, report


def test_source_archive(tmp_path):
    """All that a build needs and the pages; no figures, no tests and tools, whose recorded answers are large."""
    pytest.importorskip("setuptools", reason="needs setuptools")
    source = tmp_path / "source"
    source.mkdir()
    pages = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE"}
    top = {*pages, "pyproject.toml", "setup.py", "MANIFEST.in"}
    for name in (*top, "Makefile"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
    for name in ("fastbilstm", "ext", "docs", "benches", "tools", "tests/project"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", "dist"]
    done = subprocess.run(command, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    (archive,) = (source / "dist").iterdir()
    assert archive.stat().st_size <= 1_000_000
    with tarfile.open(archive) as opened:
        names = {member.name.partition("/")[2] for member in opened.getmembers() if member.isfile()}
    files = {
        path.relative_to(source).as_posix()
        for folder in ("fastbilstm", "ext", "docs")
        for path in (source / folder).rglob("*")
        if path.is_file() and path.parent.name != "figures"
    }
    made = {"PKG-INFO", "setup.cfg"}
    assert {name for name in names if not name.startswith("fastbilstm.egg-info/")} == files | top | made


CLANG_CL = """#!/bin/sh
exec clang --driver-mode=cl --target=x86_64-pc-windows-msvc "$@" /I"{headers}" -ffreestanding -D__MM_MALLOC_H
"""


def test_clang_cl_compiles_for_windows(tmp_path, monkeypatch):
    """setup.py and setuptools' MSVC class together make objects of the kernels, with clang-cl played by clang."""
    if shutil.which("clang") is None or sys.platform == "win32":
        pytest.skip("needs clang, and no Windows")
    setuptools = pytest.importorskip("setuptools", reason="needs setuptools")
    pytest.importorskip("Cython", reason="needs Cython")
    from setuptools._distutils._msvccompiler import MSVCCompiler

    for name, text in HEADERS.items():
        (tmp_path / name).write_text(text)
    program = tmp_path / "clang-cl"
    program.write_text(CLANG_CL.format(headers=tmp_path))
    program.chmod(0o755)

    def initialize(self):
        """What setuptools sets after it has found Visual Studio."""
        self.initialized, self.cc, self._paths = True, "cl.exe", ""
        self.compile_options = ["/nologo", "/O2", "/W3", "/GL", "/DNDEBUG", "/MD"]

    monkeypatch.setenv("FASTBILSTM_CLANG_CL", str(program))
    monkeypatch.setattr(setuptools, "setup", lambda **options: None)
    monkeypatch.setattr(MSVCCompiler, "initialize", initialize)
    monkeypatch.setattr(MSVCCompiler, "call", lambda self, command: subprocess.check_call(command), raising=False)
    monkeypatch.setattr(MSVCCompiler, "spawn", lambda self, command: subprocess.check_call(command))
    build = runpy.run_path(str(ROOT / "setup.py"), run_name="__main__")
    compiler = MSVCCompiler()
    build["use_clang_cl"](compiler)
    assert compiler.cc == str(program)
    sources = [str(ROOT / "ext" / f"fbl_{name}.c") for name in ("base", "avx2", "avx512", "dispatch")]
    options = [option for option in build["COMPILE_ARGS"]["clang-cl"] if option != "/W3"]
    objects = compiler.compile(
        sources, str(tmp_path / "build"), include_dirs=[str(ROOT / "ext")], extra_postargs=options
    )
    found = [path for path in (tmp_path / "build").rglob("*.obj")]
    assert len(objects) == len(found) == 4
    assert all(path.read_bytes()[:2] == b"\x64\x86" for path in found)  # COFF for x86-64


@pytest.fixture
def build_ext(monkeypatch):
    """setup.py's command, for one C file in place of what Cython writes."""
    setuptools = pytest.importorskip("setuptools", reason="needs setuptools")

    def prepared(folder, **variables):
        for name, value in {"FASTBILSTM_COMPILE": "", "CC": "cc", **variables}.items():
            monkeypatch.setenv(name, value)
        given = {}
        monkeypatch.setattr(setuptools, "setup", given.update)
        source = folder / "empty.c"
        source.write_text("int fbl_nothing;\n")
        build = runpy.run_path(str(ROOT / "setup.py"), run_name="__main__")
        build["BuildExt"].build_extensions.__globals__["translate"] = lambda extension, folder: [str(source)]
        command = given["cmdclass"]["build_ext"](setuptools.Distribution({"ext_modules": given["ext_modules"]}))
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "temp")
        return command

    return prepared


def finished(command):
    command.ensure_finalized()
    command.run()


def test_compiler_that_fails_is_an_error(build_ext, tmp_path):
    from setuptools.errors import CompileError

    with pytest.raises(CompileError, match="FASTBILSTM_COMPILE=0 installs without the compiled modules"):
        finished(build_ext(tmp_path, CC="false"))


@pytest.mark.skipif(sys.platform == "win32", reason="MSVC is not found by its name")
def test_compiler_that_is_missing(build_ext, tmp_path, caplog):
    command = build_ext(tmp_path, CC="no-such-compiler")
    finished(command)
    assert command.extensions == [] and not (tmp_path / "lib").exists()
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "there is no C compiler 'no-such-compiler' on the PATH: fastbilstm is installed without" in told
    with pytest.raises(SystemExit, match="no C compiler 'no-such-compiler' on the PATH, and FASTBILSTM_COMPILE is 1"):
        finished(build_ext(tmp_path, CC="no-such-compiler", FASTBILSTM_COMPILE="1"))
    assert not build_ext(tmp_path, FASTBILSTM_COMPILE="0").distribution.ext_modules
