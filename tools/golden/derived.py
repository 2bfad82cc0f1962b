"""The register of derived cases, for frameworks that no longer install: files and answers made by hand.

derived_keras1.py and derived_keras2.py fill it: each function writes a file as that Keras did (old_keras.py) and works
out its answer in plain Python (derived_math.py). `source` names the lines of that Keras which say so.
"""

import fnmatch
import io
import zlib

import numpy as np

from .covers import covers
from .registry import flat

CASES = {}
MASKS = [[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def derived(name, why, writer, source, *tags):
    """Register `make(path, rng)`, which writes the file and returns (model config, calls, answers)."""

    def register(make):
        CASES[f"derived-{name}"] = (make, why, writer, source, tags)
        return make

    return register


def sequences(rng, features=2):
    """(5, 4, F) with rows of zeros where MASKS says so."""
    x = rng.standard_normal((5, 4, features)).astype(np.float32)
    x[~np.array(MASKS, bool)] = 0
    return x


def each(x, make, masks=MASKS):
    """Answers row by row."""
    return np.array([make(row, mask) for row, mask in zip(x.tolist(), masks, strict=True)])


def random_dense(rng, inputs, units):
    kernel = rng.normal(0, inputs**-0.5, (inputs, units)).astype(np.float32)
    return kernel.tolist(), rng.normal(0, 0.5, units).astype(np.float32).tolist()


def names():
    return list(CASES)


def write(stage, only):
    """Write the derived cases whose name matches into the stage folder; return their index rows."""
    rows = []
    for name, (make, why, writer, source, tags) in CASES.items():
        if not fnmatch.fnmatch(name, only):
            continue
        folder = stage / name
        folder.mkdir(parents=True)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        model, calls, answers = make(folder / "model.h5", rng)
        values = {}
        for i, (inputs, outputs) in enumerate(zip(calls, answers, strict=True)):
            values |= {f"{i}/inputs/{key}": x for key, x in flat(inputs).items()}
            for dtype in ("float32", "float64"):
                values |= {f"{i}/{dtype}/{key}": np.asarray(y, dtype) for key, y in flat(outputs).items()}
        buffer = io.BytesIO()
        np.savez(buffer, **values)
        (folder / "values.npz").write_bytes(buffer.getvalue())
        row = {"name": name, "why": why, "writer": writer, "pack": "derived.zip", "file": "model.h5"}
        row["config"] = "config.json" if (folder / "config.json").exists() else None
        found = sorted({*covers(model["config"], model["class_name"]), *tags})
        rows.append(row | {"outputs": None, "derived": True, "source": source, "covers": found})
    return rows
