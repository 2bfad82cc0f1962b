"""tools/release_check.py: it sees where tag, version and changelog differ, and answers that are not Keras'.

The builds and installations of `make release-check` need the network, and do not run here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from paths import DEMO, ROOT, TOOLS
from scripts import load_script

import fastbilstm


@pytest.fixture(scope="module")
def check():
    return load_script(TOOLS / "release_check.py")


GOOD = "# Changes\n\n## 1.2.0 (2027-01-31)\n\n- Less.\n\n## 1.1.0 (2026-12-01)\n"


@pytest.mark.parametrize(
    "version, tags, changelog, told",
    [
        ("1.2.0", ["v1.2.0"], GOOD, []),
        ("1.2.0", ["latest", "v1.2.0"], GOOD, []),
        ("1.2.0rc1", ["v1.2.0rc1"], GOOD.replace("1.2.0", "1.2.0rc1"), []),
        ("1.2.0", [], GOOD, ["no tag v1.2.0 (its tags: none)"]),
        ("1.2.0", ["v1.1.0"], GOOD, ["its tags: v1.1.0"]),
        ("1.2.0", ["1.2.0"], GOOD, ["no tag v1.2.0"]),
        ("1.3.0", ["v1.3.0"], GOOD, ["newest section is not that of 1.3.0"]),
        ("1.1.0", ["v1.1.0"], GOOD, ["newest section is not that of 1.1.0"]),
        ("1.2.0", ["v1.2.0"], GOOD.replace("2027-01-31", "unreleased"), ["1.2.0 (unreleased) needs the date"]),
        ("1.2.0", ["v1.2.0"], "# Changes\n", ["newest section"]),
        ("1.2", ["v1.2"], GOOD.replace("1.2.0", "1.2"), ["1.2 is no X.Y.Z"]),
        ("1.3.0", [], GOOD, ["no tag v1.3.0", "newest section"]),
    ],
)
def test_what_does_not_agree_is_told(check, version, tags, changelog, told):
    found = check.problems(version, tags, changelog)
    assert len(found) == len(told) and all(part in line for part, line in zip(told, found, strict=True)), found


def test_this_changelog_has_a_section_for_this_version(check):
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    found = check.problems(fastbilstm.__version__, [f"v{fastbilstm.__version__}"], changelog)
    assert all("needs the date" in line for line in found), found
    sections = [match[1] for match in check.SECTION.finditer(changelog)]
    assert len(sections) == len(set(sections)) == len(re.findall(r"^## ", changelog, re.MULTILINE))


def answered(check, version, *demo):
    command = [sys.executable, "-c", check.SAMPLE, version, *map(str, demo)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)


def test_the_golden_samples_are_those_of_keras(check):
    done = answered(check, fastbilstm.__version__)
    assert done.returncode == 0 and "10 reviews" in done.stdout, done.stderr
    assert "it has version" in answered(check, "0.0.0").stderr


def test_a_file_with_other_weights_is_seen(check, tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    for path in (DEMO, DEMO.with_name("reviews.npz")):
        shutil.copy(path, tmp_path)
    assert answered(check, fastbilstm.__version__, tmp_path).returncode == 0
    with h5py.File(tmp_path / DEMO.name, "r+") as file:
        kernels = []
        file["model_weights/dense"].visititems(lambda _, part: kernels.append(part) if hasattr(part, "shape") else None)
        kernels[0][...] += 0.01
    done = answered(check, fastbilstm.__version__, tmp_path)
    assert done.returncode == 1 and "probabilities differ from Keras' by" in done.stderr


def test_the_target_runs_it_after_the_site():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (recipe,) = re.findall(r"^release-check: docs\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert "tools/release_check.py" in recipe and all(name in recipe for name in ("twine", "packaging"))


def test_extras_that_do_not_resolve_are_seen(check, tmp_path, monkeypatch, capsys):
    """pip is asked for each Python, of this wheel's own extras; what it would install is compared."""
    wheel = tmp_path / "fastbilstm-1.2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        about = "Name: fastbilstm\nProvides-Extra: convert\nProvides-Extra: parquet\n"
        archive.writestr("fastbilstm-1.2.0.dist-info/METADATA", about)
    asked, needed = [], ["fastbilstm", "numpy", "h5py"]

    def run(*command):
        options = list(map(str, command))
        asked.append((options[options.index("--python-version") + 1], options[-1].partition("[")[2]))
        found = [{"metadata": {"name": name, "version": "1"}} for name in needed]
        Path(options[options.index("--report") + 1]).write_text(json.dumps({"install": found}))

    monkeypatch.setattr(check, "run", run)
    check.check_extras(wheel)
    assert asked == [(f"3.{minor}", e) for minor in range(10, 15) for e in ("convert]", "convert,parquet]")]
    assert "Python 3.14: 3 packages for the extras convert,parquet" in capsys.readouterr().out
    needed.append("scipy")
    with pytest.raises(SystemExit, match=r"3.10: the extra convert needs .*'scipy'\]; expected NumPy and h5py alone"):
        check.check_extras(wheel)


def test_files_of_other_machines_are_not_tried(check):
    pytest.importorskip("packaging", reason="needs packaging")
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert check.fits(Path("fastbilstm-1.2.0.tar.gz")) and check.fits(Path("fastbilstm-1.2.0-py3-none-any.whl"))
    assert not check.fits(Path("fastbilstm-1.2.0-cp35-cp35m-win32.whl"))
    assert not check.fits(Path(f"fastbilstm-1.2.0-{here}-{here}-plan9_1_0_z80.whl"))
