"""`Model.predict` on the guide's nets: the vector engine, the BLAS engine and the specification in NumPy.

`make bench` times them on one thread. Without timing (as in `make test`) each runs once, on short sequences; in both
cases the outputs are compared first, and no time is ever asserted. Weights are random, 400 timesteps, batches of 1 and
32. The other engines are in bench_rivals.py.
"""

import functools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the benches share
from nets import NETS, VOCABULARY, keras_file, random_weights

import fastbilstm
from fastbilstm.engine import backends
from fastbilstm.tolerances import IMDB_PROBABILITY

pytest.importorskip("h5py", reason="the nets are written as Keras files")

TIMESTEPS = 400
ENGINES = ("float32-vector", "float32-blas", "float32-numpy", "float64-blas", "float64-numpy")
PROBLEMS = {"vector": backends.vector_problem, "blas": backends.blas_problem}


@functools.cache
def make_net(net):
    return keras_file(NETS[net], random_weights(NETS[net]))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("net", ["lstm64", "bilstm64", "stack", "attention", "gru64", "bigru64"])
def bench_predict(benchmark, net, batch, engine):
    dtype, backend = engine.split("-")
    if problem := PROBLEMS.get(backend, lambda: None)():
        pytest.skip(str(problem))
    timesteps = TIMESTEPS if benchmark.enabled else 20
    ids = np.random.default_rng(batch).integers(0, VOCABULARY, (batch, timesteps), dtype=np.int32)
    model = fastbilstm.load(make_net(net), backend=backend, dtype=dtype, n_threads=1)
    exact = fastbilstm.load(make_net(net), backend="numpy", dtype="float64").predict(ids)
    # 400 timesteps: the bound of the trained models of that length.
    np.testing.assert_allclose(model.predict(ids), exact, rtol=0, atol=IMDB_PROBABILITY)
    benchmark.group = f"predict {net}, batch {batch}"
    benchmark.name = engine
    benchmark(model.predict, ids)
