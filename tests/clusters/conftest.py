"""Fixtures of the tests of Dask: the demo model as a converted file, rows for it, a cluster.

The other tests of this folder have rows of their own.
"""

import numpy as np
import pytest
from dask_cases import ROWS
from paths import DEMO

import fastbilstm


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The demo model, converted: a file that is memory-mapped."""
    path = tmp_path_factory.mktemp("dask") / "model.fbl"
    fastbilstm.convert(DEMO, path)
    return path


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(5).integers(1, 5000, (ROWS, 400))


@pytest.fixture(scope="module")
def answers(path, ids):
    return fastbilstm.load(path).predict(ids)


@pytest.fixture(scope="module")
def cluster():
    """Two processes on 127.0.0.1, for all tests of a file."""
    from distributed import LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with LocalCluster(silence_logs=50, **options) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield client
