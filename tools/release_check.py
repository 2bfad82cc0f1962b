"""Checks and builds a release: tag, version and changelog agree; archive and wheels install and give Keras' numbers.

    python tools/release_check.py             # what `make release-check` runs, after it has built the site
    python tools/release_check.py --draft     # before the tag and the date are set: reports them, and goes on

Leaves in dist/ what is to be uploaded, and uploads nothing. For each Python pip must find wheels of all that the extras
need. Each file that fits this machine is installed in a fresh environment with NumPy alone, where the sample must give
the probabilities that Keras gave; then with the extra `convert`, where the demo's .h5 must. Needs twine and packaging;
pip fetches what the environments need.
"""

import argparse
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
DIST = ROOT / "dist"
SECTION = re.compile(r"^## (\S+) \((.*)\)$", re.MULTILINE)

# Runs in the fresh environment. Arguments: the version, and the demo's folder or nothing.
SAMPLE = """
import sys
import numpy as np
import fastbilstm

version, *demo = sys.argv[1:]
assert fastbilstm.__version__ == version, f"it has version {fastbilstm.__version__}"
if demo:
    model = fastbilstm.load(f"{demo[0]}/bilstm64.h5")
    file = f"{demo[0]}/reviews.npz"
    options = {"pad": "pre", "maxlen": 400}
else:
    assert "h5py" not in sys.modules
    model, file, options = fastbilstm.sample_model(), fastbilstm.sample.FOLDER / "reviews.npz", {}
with np.load(file) as held:
    rows = np.split(held["ids"].astype(np.int32), held["offsets"][1:-1])[:10]
    keras = held["keras_prob"].ravel()[:10]
worst = float(np.abs(model.predict(rows, **options)[:, 0] - keras).max())
assert worst < 1e-5, f"probabilities differ from Keras' by {worst:.2g}"
print(f"backend {model.backend}, {len(rows)} reviews, differs from Keras by {worst:.1g}")
"""


def problems(version, tags, changelog):
    """What does not agree: the version, the tags of the commit, and the newest section of the changelog."""
    found = []
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        found.append(f"fastbilstm/_version.py: {version} is no X.Y.Z, X.Y.ZaN, X.Y.ZbN or X.Y.ZrcN")
    if f"v{version}" not in tags:
        has = ", ".join(tags) or "none"
        found.append(f"the commit has no tag v{version} (its tags: {has}): git tag v{version}")
    newest = SECTION.search(changelog)
    if newest is None or newest[1] != version:
        found.append(f"CHANGELOG.md: the newest section is not that of {version}")
    elif not re.fullmatch(r"\d{4}-\d{2}-\d{2}", newest[2]):
        found.append(f"CHANGELOG.md: {version} ({newest[2]}) needs the date of the release, as YYYY-MM-DD")
    return found


def git(*words):
    return subprocess.run(["git", "-C", ROOT, *words], check=True, capture_output=True, text=True).stdout


def run(*command, **options):
    """A step of the build, which shows what it does; SystemExit where it fails."""
    words = [str(part) for part in command]
    print(f"\n$ {' '.join(words)}", flush=True)
    if subprocess.run(words, cwd=ROOT, **options).returncode:
        raise SystemExit(f"failed: {' '.join(words)}")


def build():
    """Fill dist/: the source archive and the wheels."""
    shutil.rmtree(DIST, ignore_errors=True)
    run("make", "wheels")
    return sorted(DIST.glob("*.tar.gz")) + sorted(DIST.glob("*.whl"))


def resolved(wheel, extras, version):
    """{package: version} that pip would install of a wheel with extras, from wheels alone; SystemExit where it cannot.

    Markers are those of the Python that runs this, wheels those for the Python of that version.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        pip = ("-m", "pip", "--disable-pip-version-check", "install", "-q", "--dry-run", "--ignore-installed")
        where = ("--target", folder, "--python-version", version, "--only-binary=:all:", "--report", report)
        run(sys.executable, *pip, *where, f"{wheel}[{extras}]")
        found = json.loads(report.read_text("utf-8"))["install"]
    return {package["metadata"]["name"]: package["metadata"]["version"] for package in found}


def check_extras(wheel):
    """All extras resolve on each Python, and `convert` needs NumPy and h5py alone."""
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        every = ",".join(re.findall(r"^Provides-Extra: (\S+)", archive.read(about).decode(), re.MULTILINE))
    for version in PYTHONS:
        few = resolved(wheel, "convert", version)
        if set(few) != {"fastbilstm", "numpy", "h5py"}:
            raise SystemExit(f"Python {version}: the extra convert needs {sorted(few)}; expected NumPy and h5py alone")
        print(f"Python {version}: {len(resolved(wheel, every, version))} packages for the extras {every}")


def fits(path):
    """Whether this Python, on this machine, installs the file."""
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    return path.suffix != ".whl" or not parse_wheel_filename(path.name)[3].isdisjoint(sys_tags())


def try_installed(path, version):
    """Install the file in fresh environments, and compare its answers with Keras'; SystemExit where it fails."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "bin" if os.name != "nt" else "Scripts", "python")
        run(sys.executable, "-m", "venv", "--clear", folder, env=clean)
        sample = Path(folder, "sample.py")
        sample.write_text(SAMPLE, "utf-8")
        for extra, demo in (("", ()), ("[convert]", (ROOT / "tests" / "golden" / "demo",))):
            run(python, "-m", "pip", "--disable-pip-version-check", "install", "-q", f"{path}{extra}", env=clean)
            run(python, "-I", sample, version, *demo, env=clean)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draft", action="store_true", help="go on where tag and changelog do not agree yet")
    given = parser.parse_args()
    version = runpy.run_path(str(ROOT / "fastbilstm" / "_version.py"))["__version__"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    found = problems(version, git("tag", "--points-at", "HEAD").split(), changelog)
    if git("status", "--porcelain").strip():
        found.append("there are changes that are not committed: what is built is not what the tag names")
    print("\n".join([f"version {version}", *found]))
    if found and not given.draft:
        raise SystemExit(1)
    files = build()
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    check_extras(next(path for path in files if path.name.endswith("-none-any.whl")))
    others = [path.name for path in files if not fits(path)]
    for path in files:
        if fits(path):
            try_installed(path, version)
    for path in files:
        state = (
            "not for this Python and machine: not tried here"
            if path.name in others
            else "installed, and answers as Keras does"
        )
        print(f"{path.name}, {path.stat().st_size / 1e6:.2f} MB: {state}")
    if found:
        raise SystemExit("a draft: " + "; ".join(found))


if __name__ == "__main__":
    main()
