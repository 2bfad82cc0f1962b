"""What `make wheels` decides before it compiles: which headers serve which Python, and what a wheel holds.

The wheels themselves are checked by tools/check_wheels.py, at the end of `make wheels`.
"""

import itertools
import os
import re
import sys
import zipfile

import pytest
from paths import ROOT, TOOLS
from scripts import load_script

wheels = load_script(TOOLS / "wheels.py")
PYTHONS = {python.tag: python for python in wheels.PYTHONS}


def headers(folder, version, config="#define SIZEOF_LONG 8\n/* #undef Py_GIL_DISABLED */\n"):
    folder.mkdir(parents=True)
    major, minor = version
    (folder / "patchlevel.h").write_text(f"#define PY_MAJOR_VERSION\t{major}\n#define PY_MINOR_VERSION {minor}\n")
    (folder / "pyconfig.h").write_text(config)
    return str(folder)


def test_headers_that_serve_every_linux(tmp_path):
    assert wheels.version_of(headers(tmp_path / "usual", (3, 13))) == (3, 13)
    debian = "#if defined(__x86_64__)\n# include <x86_64-linux-gnu/python3.11/pyconfig.h>\n#endif\n"
    free_threaded = "#define Py_GIL_DISABLED 1\n"
    for name, config in (("debian", debian), ("free-threaded", free_threaded), ("debug", "#define Py_DEBUG 1\n")):
        assert wheels.version_of(headers(tmp_path / name, (3, 13), config)) is None
    assert wheels.version_of(tmp_path) is None
    with pytest.raises(SystemExit, match="--headers .*debian: no patchlevel.h and pyconfig.h that serve every Linux"):
        wheels.find_headers([str(tmp_path / "debian")])


def test_headers_that_are_given_come_first(tmp_path):
    version = sys.version_info[:2]
    given = headers(tmp_path / "given", version)
    assert str(wheels.find_headers([given])[version]) == given


@pytest.mark.parametrize(
    ("tag", "version"),
    [("cp310-cp310", (3, 10)), ("cp311-cp311", (3, 11)), ("cp312-abi3", (3, 12)), ("cp313-cp313t", (3, 13))],
)
def test_headers_of_a_python(tag, version):
    """One version serves; for the stable ABI the oldest there is."""
    found = {(3, minor): f"3.{minor}" for minor in (14, 13, 12, 11, 10)}
    assert wheels.headers_for(PYTHONS[tag], found) == f"3.{version[1]}"
    del found[version]
    assert wheels.headers_for(PYTHONS[tag], found) == ("3.13" if tag == "cp312-abi3" else None)
    assert wheels.headers_for(PYTHONS[tag], {(3, 9): "3.9"}) is None


def test_every_promised_python_has_a_wheel():
    """3.10 and 3.11 by themselves, all later ones through the stable ABI: those that pyproject.toml promises."""
    first = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text()).group(1)
    ranges = [(python.first[1], python.last[1]) for python in wheels.PYTHONS if not python.abi.endswith("t")]
    assert sorted(ranges)[0][0] == int(first) and [b[0] - a[1] for a, b in itertools.pairwise(ranges)] == [1, 1]


@pytest.mark.parametrize("platform", wheels.PLATFORMS)
@pytest.mark.parametrize("tag", PYTHONS)
def test_wheel(tag, platform, tmp_path):
    """Name and tags agree, the modules have the names that this Python looks for, and each file its digest."""
    wheelfile = pytest.importorskip("wheel.wheelfile", reason="needs wheel")
    utils = pytest.importorskip("packaging.utils", reason="needs packaging")
    pure = tmp_path / "fastbilstm-1.2-py3-none-any.whl"
    about = "fastbilstm-1.2.dist-info"
    with zipfile.ZipFile(pure, "w") as archive:
        for name, text in (("fastbilstm/__init__.py", "x = 1\n"), (f"{about}/METADATA", "Name: fastbilstm\n")):
            archive.writestr(name, text)
        archive.writestr(f"{about}/WHEEL", "Root-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "old")
    python, target = PYTHONS[tag], wheels.PLATFORMS[platform]
    module = "fastbilstm/_kernels" + python.suffix(target)
    (tmp_path / "module").write_bytes(b"\x7fELF")
    path = wheels.write_wheel(pure, [(module, tmp_path / "module")], python, target, tmp_path)
    _, _, _, tags = utils.parse_wheel_filename(path.name)
    libc, arch = platform.split("-")
    assert {str(each) for each in tags} == {f"{tag}-{each}" for each in target.tags}
    assert any(each.platform in (f"manylinux_2_17_{arch}", f"musllinux_1_2_{arch}") for each in tags)
    assert target.zig.startswith(arch) and target.is_musl == (libc == "musllinux")
    if tag == "cp312-abi3":
        assert module.endswith("_kernels.abi3.so")
    else:
        assert f".cpython-{tag.split('cp')[-1]}-{arch}-linux-{'musl' if target.is_musl else 'gnu'}.so" in module
    with wheelfile.WheelFile(path) as archive:
        assert set(archive.namelist()) == {
            "fastbilstm/__init__.py", module, f"{about}/METADATA", f"{about}/WHEEL", f"{about}/RECORD",
        }  # fmt: skip
        for name in archive.namelist():
            archive.read(name)  # compares the digest
        written = archive.read(f"{about}/WHEEL").decode()
    assert "Root-Is-Purelib: false" in written
    assert re.findall(r"^Tag: (.*)$", written, re.MULTILINE) == [f"{tag}-{each}" for each in target.tags]


def test_macros_choose_the_abi():
    assert PYTHONS["cp312-abi3"].macros == ("-DPy_LIMITED_API=0x030c0000",)
    assert PYTHONS["cp313-cp313t"].macros == PYTHONS["cp314-cp314t"].macros == ("-DPy_GIL_DISABLED=1",)
    assert PYTHONS["cp310-cp310"].macros == PYTHONS["cp311-cp311"].macros == ()


@pytest.fixture
def check(monkeypatch):
    pytest.importorskip("packaging.utils", reason="needs packaging")
    monkeypatch.setitem(sys.modules, "wheels", wheels)
    return load_script(TOOLS / "check_wheels.py")


def checked(check, folder, kernels, extra=(), platform="musllinux-aarch64"):
    """What check_wheels.py says of a wheel of this project's sources, with these bytes for its kernels."""
    pytest.importorskip("wheel.wheelfile", reason="needs wheel")
    pure = folder / "fastbilstm-1.2-py3-none-any.whl"
    with zipfile.ZipFile(pure, "w") as archive:
        for name in wheels.package_files():
            archive.write(ROOT / name, name)
        for name in extra:
            archive.writestr(name, "")
        archive.writestr("fastbilstm-1.2.dist-info/WHEEL", "")
    assert check.target_of(pure) == (None, None)
    python, target = PYTHONS["cp312-abi3"], wheels.PLATFORMS[platform]
    modules = []
    for name, content in (("_kernels", kernels), ("_recurrent", b"")):
        (folder / name).write_bytes(content)
        modules.append((f"fastbilstm/{name}.abi3.so", folder / name))
    path = wheels.write_wheel(pure, modules, python, target, folder)
    assert check.target_of(path) == (python, platform)
    check.check_contents(path, python, platform)


KERNELS = b"\x7fELF\0neon\0base\0"


def test_contents_that_pass(check, tmp_path):
    checked(check, tmp_path, KERNELS)


@pytest.mark.parametrize(
    ("kernels", "extra", "platform", "message"),
    [
        (b"\0base\0", (), "manylinux-aarch64", "no kernels of neon"),
        (b"\0avx2\0base\0", (), "manylinux-x86_64", "no kernels of avx512"),
        (KERNELS, ("ext/fbl_neon.c",), "musllinux-aarch64", r"do not belong there: \['ext/fbl_neon.c'\]"),
        (KERNELS, ("tests/test_x.py",), "musllinux-aarch64", "do not belong there"),
        (KERNELS, ("fastbilstm/_kernels.c",), "musllinux-aarch64", "do not belong there"),
        (KERNELS, ("fastbilstm/_old.abi3.so",), "musllinux-aarch64", "compiled modules .*_old"),
        (KERNELS, (), "musllinux-aarch64", "bytes, more than 100"),
    ],
    ids=["neon", "avx512", "sources", "tests", "generated", "another-module", "size"],
)
def test_contents_that_fail(check, kernels, extra, platform, message, tmp_path, monkeypatch):
    if "more than" in message:
        monkeypatch.setattr(check, "MOST_BYTES", 100)
    with pytest.raises(check.Failed, match=message):
        checked(check, tmp_path, kernels, extra, platform)


@pytest.mark.skipif(os.name == "nt", reason="starts scripts of a shell")
def test_pythons_of_both_libraries(check, tmp_path, monkeypatch):
    """Each runs the wheels for its own; the first of a version is taken."""
    paths = []
    for folder, name, suffix in (
        ("first", "python3.13", ".cpython-313-x86_64-linux-gnu.so"),
        ("second", "python3.13", ".cpython-313-x86_64-linux-gnu.so"),
        ("alpine", "python3.13", ".cpython-313-x86_64-linux-musl.so"),
        ("alpine", "python3.13t", ".cpython-313t-x86_64-linux-musl.so"),
        ("alpine", "python3.13-config", ""),
    ):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {suffix}\n")
        path.chmod(0o755)
        paths.append(str(path))
    monkeypatch.setattr(check, "installed", lambda pattern: paths)
    assert check.interpreters() == {
        ("cp312-abi3", False): {(3, 13): paths[0]},
        ("cp312-abi3", True): {(3, 13): paths[2]},
        ("cp313-cp313t", True): {(3, 13): paths[3]},
    }


def test_the_wheel_that_pip_chose(check):
    target = (PYTHONS["cp312-abi3"], "musllinux-x86_64")
    shown = "gil avx512 avx2 base\nRoot-Is-Purelib: false\nTag: cp312-abi3-musllinux_1_2_x86_64\n"
    check.check_shown(shown, *target)
    for wrong in (
        shown.replace("cp312-abi3-musllinux_1_2", "cp312-abi3-manylinux_2_17"),
        shown.replace("cp312-abi3-musllinux_1_2_x86_64", "py3-none-any"),
        shown.replace("avx512 ", ""),
        shown.replace("gil", "no-gil"),
    ):
        with pytest.raises(check.Failed, match="expected"):
            check.check_shown(wrong, *target)


def test_every_python_has_an_oldest_numpy(check):
    """None is older than the one that pyproject.toml promises."""
    (promised,) = re.findall(
        r'^dependencies = \["numpy>=([\d.]+)"\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    numbers = {version: [int(n) for n in numpy.split(".")] for version, numpy in check.OLDEST_NUMPY.items()}
    assert set(numbers) == {(3, minor) for minor in range(10, 15)}
    assert min(numbers.values())[:2] == [int(n) for n in promised.split(".")]
    assert set(check.OLDEST_NUMPY_ON_MUSL) == set(numbers)
