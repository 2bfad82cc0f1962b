"""Files with flipped, cut and overwritten bytes: an error of ours, or a well-formed model; never a wrong one.

A converted file and a .keras archive have checksums: a mutation is refused, or was in bytes that nobody reads and
changes nothing. An .h5 has none: an error of ours, or a model that predicts. What kills the process (a fault inside the
HDF5 library) is counted and printed, and does not fail: it is a limit the README names. FASTBILSTM_FUZZ=N runs N
mutations of each kind.
"""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from fuzz_worker import KINDS, TREES
from paths import MATERIAL, ROOT

COUNT = int(os.environ.get("FASTBILSTM_FUZZ", "1500"))
SEED = 20261123
# More deaths than this in a thousand would not be rare accidents inside HDF5.
MAX_DEATHS = 50
# Python, NumPy and h5py take 60 MB of it.
MAX_MEMORY = 256 << 20


def run_worker(kind, first):
    """Yield the worker's lines as dictionaries."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(MATERIAL), str(ROOT)])
    command = [sys.executable, str(MATERIAL / "fuzz_worker.py"), kind, str(SEED), str(COUNT), str(first)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    for line in done.stdout.splitlines():
        yield json.loads(line)
    yield {"ended": done.returncode, "stderr": done.stderr[-2000:]}


def outcomes(kind):
    """Run all mutations of a kind; a worker that dies is started again behind the one that killed it."""
    results, deaths, first, memory = {}, [], 0, 0
    while first < COUNT:
        number = first - 1
        for line in run_worker(kind, first):
            if "ended" in line:
                ended = line
            elif "starts" in line:
                number = line["number"]
            elif "memory" in line:
                memory = max(memory, line["memory"])
            else:
                results[line["number"]] = line
        if ended["ended"] == 0:
            break
        assert number >= first, f"the worker did not start: {ended['stderr']}"
        deaths.append((number, ended["ended"]))
        first = number + 1
    return results, deaths, memory


@pytest.mark.parametrize("kind", [*KINDS, *TREES])
def test_mutated_files(kind, record_property):
    results, deaths, memory = outcomes(kind)
    assert len(results) + len(deaths) == COUNT
    crashes = [line for line in results.values() if line["what"] == "crash"]
    assert not crashes, crashes[:5]
    loaded = [line for line in results.values() if line["what"] == "loaded"]
    counts = Counter(line.get("detail", "loaded") for line in results.values())
    print(
        f"{kind}: {dict(counts)}; same model {sum(line['same'] for line in loaded)}; deaths {deaths}; {memory >> 20} MB"
    )
    record_property("outcomes", dict(counts))
    assert memory <= MAX_MEMORY
    assert counts["FileFormatError"] + counts["UnsupportedLayerError"] > COUNT // 4
    if kind in TREES:
        assert not deaths and len(loaded) > COUNT // 50
    elif kind in ("fbl", "keras"):
        assert not deaths
        changed = [line for line in loaded if not line["same"]]
        assert not changed, f"mutations {[line['number'] for line in changed]} load as another model"
    else:
        assert len(deaths) * 1000 <= MAX_DEATHS * COUNT, deaths


def test_the_worker_sees_a_changed_model():
    """The comparison that the test rests on can fail: other weights are not the same model."""
    import fuzz_worker
    import make_files as mf

    assert fuzz_worker.answer(mf.h5(), {}) == fuzz_worker.answer(mf.h5(), {})
    assert fuzz_worker.answer(mf.h5(arrays=mf.weights(1)), {}) != fuzz_worker.answer(mf.h5(), {})
    assert fuzz_worker.answer(b"nothing", {})[0] == "refused"
