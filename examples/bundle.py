"""What lambda_zip and zipapp put into their archives: NumPy and fastbilstm as this Python has them installed.

The compiled modules are those of this Python and system: build where the target's are the same, in its container for
one. Imports fastbilstm.
"""

import importlib.util
import shutil
import zipfile
from pathlib import Path

import fastbilstm

# Of NumPy and fastbilstm what no prediction imports.
LEFT_OUT = ("tests", "f2py", "distutils", "__pycache__", "include", "*.pyi", "*.a", "*.pyx", "*.pxd", "*.h", "*.c")
LEVEL = 6  # of compression


def collect(folder):
    """Copy the packages into `folder`, which is made."""
    folder = Path(folder)
    for name in ("numpy", "fastbilstm"):
        source = Path(importlib.util.find_spec(name).origin).parent
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        libraries = source.with_name(f"{name}.libs")  # BLAS, where a wheel brings it
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name)


def add_model(folder, path=None):
    """Put a converted file into `folder` as model.fbl: that of `path`, or the sample."""
    target = Path(folder) / "model.fbl"
    if path is None:
        fastbilstm.sample_model().save(target)
    else:
        shutil.copyfile(path, target)


def pack(folder, target, first_line=b""):
    """Write all files of a folder into a zip archive, after a line of text: the same bytes for the same files."""
    folder = Path(folder)
    with open(target, "wb") as file:
        file.write(first_line)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes(), compresslevel=LEVEL)


def megabytes(path):
    """The size of a file, or of all files in a folder, as text."""
    path = Path(path)
    files = [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]
    return f"{sum(part.stat().st_size for part in files) / 1e6:.1f} MB"
