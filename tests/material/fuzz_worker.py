"""Loads mutated files and says what happened, one JSON line each; run by test_fuzz.py in a process with limits.

    python fuzz_worker.py KIND SEED COUNT FIRST

A mutation is drawn from (SEED, number), so that a run that was killed can go on after the one that killed it.
"""

import faulthandler
import json
import resource
import sys

import make_files as mf
import numpy as np

import fastbilstm

MEMORY = 1 << 30
KINDS = ("fbl", "keras", "h5", "weights.h5", "config.json")


def original(kind):
    """(content, keyword arguments of load) of an intact file; with `path` the content is the config beside it."""
    if kind == "fbl":
        return mf.converted(), {}
    if kind == "keras":
        return mf.archive(), {}
    if kind == "h5":
        return mf.h5(), {}
    if kind == "config.json":
        config = mf.functional() | {"keras_version": mf.KERAS3}
        return json.dumps(config).encode(), {"path": mf.weights_h5()}
    return mf.weights_h5(), {"config": mf.sequential() | {"keras_version": mf.KERAS3}}


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


def answer(content, options):
    """Load and predict: the outcome as (what, detail)."""
    try:
        model = fastbilstm.load(config=content, **options) if "path" in options else fastbilstm.load(content, **options)
        y = model.predict(mf.IDS)
    except (fastbilstm.FastBiLSTMError, fastbilstm.MissingExtraError) as error:
        return "refused", type(error).__name__
    except MemoryError:
        return "refused", "MemoryError"
    except Exception as error:
        return "crash", f"{type(error).__name__}: {error}"
    arrays = y if isinstance(y, list) else [y]
    return "loaded", [a.tobytes().hex() for a in arrays]


def main(kind, seed, count, first):
    faulthandler.enable()
    content, options = original(kind)
    intact = answer(content, options)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number in range(first, count):
        mutated = mutate(content, seed, number)
        resource.setrlimit(resource.RLIMIT_CPU, (int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 10, -1))
        print(json.dumps({"number": number, "starts": True}), flush=True)
        what, detail = answer(mutated, options)
        result = {"number": number, "what": what, "same": (what, detail) == intact}
        if what != "loaded":
            result["detail"] = str(detail)[:300]
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
