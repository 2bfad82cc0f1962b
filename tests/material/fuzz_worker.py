"""Loads mutated files and says what happened, one JSON line each; run by test_fuzz.py in a process with limits.

    python fuzz_worker.py KIND SEED COUNT FIRST

A mutation is drawn from (SEED, number), so that a run that was killed can go on after the one that killed it. KINDS
lose bytes. In TREES values, types, shapes and edges of the JSON inside are changed, and a converted file is signed
again; every backend must give the same numbers for what loads, or refuse it. "tree of golden" takes a golden case after
the other, so that layers of all classes are changed.
"""

import faulthandler
import json
import struct
import sys
import tempfile
from pathlib import Path

import make_files as mf
import numpy as np
import tfjs_files
from cases import CASES

import fastbilstm
from fastbilstm.converted import fbl_file
from fastbilstm.tolerances import compare

MEMORY = 1 << 30
KINDS = ("fbl", "keras", "h5", "weights.h5", "config.json", "tfjs")
TREES = ("tree of fbl", "tree of golden", "tree of config.json", "tree of tfjs")
BACKENDS = ("auto", "blas", "numpy")
SHARD = "group1-shard1of1.bin"
# Mutations of one golden case.
MUTATIONS = 10
# What a value of the JSON may become, beside another value of the same file.
VALUES = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    3,
    7,
    65,
    2**31,
    2**63,
    0.5,
    -0.0,
    1e308,
    "",
    "x",
    "relu",
    [],
    [None],
    [0],
    {},
)


def original(kind):
    """(content, keyword arguments of load) of an intact file; with `path` the content is the config beside it.

    With `folder` the content is model.json there or, with `length`, that many bytes of it and then the shard.
    """
    if kind in ("fbl", "tree of fbl"):
        return mf.converted(), {}
    if kind == "keras":
        return mf.archive(), {}
    if kind == "h5":
        return mf.h5(), {}
    if kind in ("tfjs", "tree of tfjs"):
        folder = Path(tempfile.mkdtemp())
        tfjs_files.write(folder, *tfjs_files.from_h5(mf.h5()))
        index, shard = ((folder / name).read_bytes() for name in ("model.json", SHARD))
        return (
            (index + shard, {"folder": folder, "length": len(index)}) if kind == "tfjs" else (index, {"folder": folder})
        )
    if kind in ("config.json", "tree of config.json"):
        config = mf.functional() | {"keras_version": mf.KERAS3}
        return json.dumps(config).encode(), {"path": mf.weights_h5()}
    return mf.weights_h5(), {"config": mf.sequential() | {"keras_version": mf.KERAS3}}


def golden(number):
    """The golden case of that number as a converted file, and the inputs of its recorded vector."""
    while True:
        case = CASES[7919 * number % len(CASES)]
        try:
            content = mf.converted(**case.load_args())
        except fastbilstm.MissingExtraError:  # PyYAML is optional
            number += 1
            continue
        inputs = list(fastbilstm.load(content).vector.inputs)
        return content, inputs if len(inputs) > 1 else inputs[0]


def mutate(content, seed, number):
    """Flip one to four bytes, or cut the file, or overwrite a run of bytes."""
    rng = np.random.default_rng((seed, number))
    data = bytearray(content)
    choice = rng.integers(10)
    if choice == 0:
        return bytes(data[: rng.integers(len(data))])
    if choice == 1:
        start = int(rng.integers(len(data)))
        run = rng.bytes(int(rng.integers(1, 32)))
        data[start : start + len(run)] = run[: len(data) - start]
        return bytes(data)
    # Half of the flips go where the structure is: the first and the last kilobyte.
    for _ in range(rng.integers(1, 5)):
        edge = min(1024, len(data))
        where = rng.integers(len(data)) if rng.integers(2) else rng.integers(edge) - edge * rng.integers(2)
        data[where] ^= int(rng.integers(1, 256))
    return bytes(data)


def change(tree, rng):
    """Change one to three places of a JSON tree: another value, a value from elsewhere in it, or none."""
    for _ in range(rng.integers(1, 4)):
        places = [(box, key) for box in boxes(tree) for key in (box if isinstance(box, dict) else range(len(box)))]
        box, key = places[rng.integers(len(places))]
        other, there = places[rng.integers(len(places))]
        choice = rng.integers(4)
        if choice == 0:
            del box[key]
        elif choice == 1:
            box[key] = json.loads(json.dumps(other[there]))
        else:
            box[key] = VALUES[rng.integers(len(VALUES))]


def boxes(tree):
    """All lists and dicts of a JSON tree that hold something."""
    if isinstance(tree, (list, dict)) and tree:
        yield tree
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from boxes(part)


def mutate_tree(kind, content, seed, number):
    rng = np.random.default_rng((seed, number))
    if kind in ("tree of config.json", "tree of tfjs"):
        tree = json.loads(content)
        change(tree, rng)
        return json.dumps(tree).encode()
    length = struct.unpack("<Q", content[:8])[0]
    header, arrays = json.loads(content[8 : 8 + length]), content[8 + length :]
    if rng.integers(4):
        graph = json.loads(header["__metadata__"]["graph"])
        change(graph, rng)
        header["__metadata__"]["graph"] = json.dumps(graph)
    else:
        change(header, rng)
    if isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["sha256"] = fbl_file._digest(header, arrays)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + arrays


def agreement(content, options, x=mf.IDS):
    """The outcome on every backend, as one: "crash" where they differ."""
    found = {backend: answer(content, {**options, "backend": backend}, list, x) for backend in BACKENDS}
    kinds = {what for what, _ in found.values()}
    if "crash" in kinds or len(kinds) > 1:
        return "crash", {backend: (what, str(detail)[:200]) for backend, (what, detail) in found.items()}
    what, first = found["numpy"]
    if what == "loaded":
        for backend, (_, arrays) in found.items():
            if not all(compare(y, k).max_rel < 1e-3 or not is_finite(k) for y, k in zip(arrays, first)):
                return "crash", f"backend {backend} gives other numbers"
    return what, "" if what == "loaded" else first


def is_finite(array):
    return array.dtype.kind == "O" or np.isfinite(array).all()


def answer(content, options, keep=None, x=mf.IDS):
    """Load and predict: the outcome as (what, detail)."""
    options = dict(options)
    if "path" in options:
        options["config"] = content
    elif "folder" in options:
        options["path"] = write_parts(options.pop("folder"), content, options.pop("length", None))
    else:
        options["path"] = content
    try:
        model = fastbilstm.load(**options)
        y = model.predict(x)
    except (fastbilstm.FastBiLSTMError, fastbilstm.MissingExtraError) as error:
        return "refused", type(error).__name__
    except MemoryError:
        return "refused", "MemoryError"
    except Exception as error:
        return "crash", f"{type(error).__name__}: {error}"
    arrays = list(y.values()) if isinstance(y, dict) else y if isinstance(y, list) else [y]
    if keep is not None:
        return "loaded", keep(arrays)
    return "loaded", [a.tobytes().hex() for a in arrays]


def write_parts(folder, content, length):
    """Write model.json and, behind `length` bytes, the shard beside it; return the folder."""
    (folder / "model.json").write_bytes(content[:length])
    if length is not None:
        (folder / SHARD).write_bytes(content[length:])
    return folder


def most_memory():
    """The most bytes of memory that this process had at a time, where the system tells."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


def main(kind, seed, count, first):
    import resource  # not on Windows, where other tests use the rest of this file

    faulthandler.enable()
    content, options = original("tree of fbl" if kind == "tree of golden" else kind)
    intact = agreement(content, options) if kind in TREES else answer(content, options)
    x = mf.IDS
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number in range(first, count):
        if kind == "tree of golden" and (number == first or number % MUTATIONS == 0):
            content, x = golden(number // MUTATIONS)
        mutated = mutate_tree(kind, content, seed, number) if kind in TREES else mutate(content, seed, number)
        resource.setrlimit(resource.RLIMIT_CPU, (int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 10, -1))
        print(json.dumps({"number": number, "starts": True}), flush=True)
        what, detail = agreement(mutated, options, x) if kind in TREES else answer(mutated, options)
        result = {"number": number, "what": what, "same": (what, detail) == intact}
        if what != "loaded":
            result["detail"] = str(detail)[:300]
        print(json.dumps(result), flush=True)
    print(json.dumps({"memory": most_memory()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
