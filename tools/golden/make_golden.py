"""Write the golden cases of tests/golden: small Keras models and what Keras answers (needs TensorFlow).

    python tools/golden/make_golden.py --old-keras old/keras-3.0.5 --old-keras old/keras-3.3.3

Models are built, saved and run with the installed `keras` (3.x) and `tf_keras`, each in its own process, and, where
meanings or files changed, with other versions found in the folders of --old-keras (made by `pip install --no-deps
--target FOLDER keras==3.3.3`; 2.12.0, 3.0.5 with dm-tree, 3.3.3, 3.4.1 and 3.13.2 were used). Cases of frameworks that
no longer run are worked out by hand in tools/golden/derived*.py. Seeds are fixed. Results: tests/golden/<family>.zip,
each case in a folder of its own, and tests/golden/index.json.
"""

import argparse
import fnmatch
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

TOOLS = Path(__file__).resolve().parents[1]
GOLDEN = TOOLS.parent / "tests" / "golden"
# In the place of this folder, whose modules are those of the package golden.
sys.path[:1] = [str(TOOLS), str(TOOLS.parent)]


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", default="*", help="cases whose name matches, e.g. 'lstm-*-keras3'")
    parser.add_argument("--out", type=Path, default=GOLDEN, help="folder to write (default: tests/golden)")
    parser.add_argument(
        "--old-keras", type=Path, action="append", default=[], metavar="DIR", help="folder with an older Keras in it"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    return parser.parse_args(argv)


def frameworks(old_keras):
    """(label in the rows' `on`, module, folder put before the installed packages) of what can be run."""
    found = [("keras", "keras", None), ("tf_keras", "tf_keras", None)]
    for folder in old_keras:
        info = next(folder.glob("keras-*.dist-info"), None)
        if info is None:
            sys.exit(f"error: {folder} holds no Keras (no keras-*.dist-info)")
        found.append((".".join(info.name.split("-")[1].split(".")[:2]), "keras", folder))
    return found


def run_worker(label, module, folder, titles, stage):
    """Build `titles` with one framework; True if all went well."""
    env = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1")
    env["PYTHONPATH"] = os.pathsep.join(([str(folder)] if folder else []) + [str(TOOLS)])
    command = [sys.executable, "-W", "ignore", "-m", "golden.worker", module, label, str(stage), *titles]
    return subprocess.run(command, env=env, check=False).returncode == 0


def warn_if_unsteady(name, values):
    """Golden weights must stay away from chaos: Keras' own float32 has to be well within the float32 tolerance."""
    from fastbilstm.tolerances import compare

    with np.load(io.BytesIO(values)) as arrays:
        for key in arrays.files:
            call, dtype, rest = key.split("/", 2)
            if dtype == "float32":
                result = compare(arrays[key], arrays[f"{call}/float64/{rest}"], "float32")
                if not result.ok:
                    print(f"unsteady: {name} {key}: Keras' float32 against its float64: {result.message}")


def pack(stage, rows, out, known):
    """Replace the cases `rows` in the zip archives and the index; keep the others that are still `known`."""
    index_file = out / "index.json"
    index = {row["name"]: row for row in json.loads(index_file.read_text())} if index_file.exists() else {}
    index = {name: row for name, row in index.items() if name in known} | {row["name"]: row for row in rows}
    fresh = {row["name"] for row in rows}
    for name in sorted({row["pack"] for row in index.values()}):
        members = {}
        if (out / name).exists():
            with zipfile.ZipFile(out / name) as old:
                members = {m: old.read(m) for m in old.namelist() if m.split("/")[0] not in fresh}
        members = {m: data for m, data in members.items() if m.split("/")[0] in index}
        for row in rows:
            if row["pack"] == name:
                for path in sorted((stage / row["name"]).iterdir()):
                    members[f"{row['name']}/{path.name}"] = path.read_bytes()
        with zipfile.ZipFile(out / name, "w") as archive:
            for member in sorted(members):
                info = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_LZMA
                archive.writestr(info, members[member])
    lines = [json.dumps(index[name]) for name in sorted(index)]
    index_file.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def main(argv=None):
    args = parse_args(argv)
    from golden import derived
    from golden.models import SPECS as specs
    from golden.registry import case_name

    args.out.mkdir(parents=True, exist_ok=True)
    good = True
    with tempfile.TemporaryDirectory() as stage:
        stage = Path(stage)
        for label, module, folder in frameworks([path.resolve() for path in args.old_keras]):
            titles = [t for t, spec in specs.items() if label in spec.on]
            titles = [t for t in titles if fnmatch.fnmatch(case_name(t, label), args.only)]
            if args.list:
                print("\n".join(case_name(t, label) for t in titles))
            elif titles:
                print(f"{label}: {len(titles)} models", flush=True)
                good &= run_worker(label, module, folder, titles, stage)
        if args.list:
            print("\n".join(derived.names()))
            return 0
        rows_file = stage / "rows.jsonl"
        rows = [json.loads(line) for line in rows_file.read_text().splitlines()] if rows_file.exists() else []
        rows += derived.write(stage, args.only)
        for row in rows:
            warn_if_unsteady(row["name"], (stage / row["name"] / "values.npz").read_bytes())
        known = {case_name(title, label) for title, spec in specs.items() for label in spec.on} | set(derived.names())
        pack(stage, rows, args.out, known)
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f"{len(rows)} cases written; {args.out.name} holds {size / 1e6:.2f} MB")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
