"""Builds predict.pyz, one file that predicts: NumPy, fastbilstm and a model behind __main__.py.

    python examples/zipapp/build_zipapp.py [--model model.fbl] [-o predict.pyz]

It runs with the same version of Python, on the same kind of system, as it was built with; nothing need be installed
there.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bundle import add_model, collect, megabytes, pack  # noqa: E402


def build(target, model=None):
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        content = Path(folder, "content")
        collect(content)
        add_model(content, model)
        shutil.copyfile(HERE / "__main__.py", content / "__main__.py")
        found = hashlib.sha256()
        for path in sorted(path for path in content.rglob("*") if path.is_file()):
            found.update(path.relative_to(content).as_posix().encode() + b"\0" + path.read_bytes())
        (content / "CONTENT").write_text(found.hexdigest()[:16])
        pack(content, target, b"#!/usr/bin/env python3\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a converted file with tokenizer and labels (default: the sample)")
    parser.add_argument("-o", "--output", default="predict.pyz")
    given = parser.parse_args()
    build(given.output, given.model)
    print(f"{given.output}: {megabytes(given.output)}")


if __name__ == "__main__":
    main()
