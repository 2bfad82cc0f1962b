"""Dask beside one process: rows a second with one and two workers, and what a killed worker costs.

    python benches/clusters/bench_dask.py [--rows 25000] [--chunk 500] [--rounds 3]

Reviews (`cells.reviews`), 400 token ids each, through the demo's BiLSTM(64). Every answer must have the bits of the
local one. Workers are processes of one thread on this machine; with few cores they wait for each other, the scheduler
and this process. "chunks": sent from here, as `fastbilstm predict --dask` does; "array": of a Dask Array that the
workers hold already. Needs Dask.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the benches share
from cells import DEMO, pad, reviews

import fastbilstm
from fastbilstm.clusters import dask_collections as engine

MODEL = DEMO / "bilstm64.h5"


def timed(call, expected, rounds):
    """Median seconds of `rounds` calls, each of which must give what is expected."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - start)
        if not np.array_equal(found, expected):
            raise SystemExit("the answers are not those of a local prediction")
    return statistics.median(seconds)


def tell(what, rows, seconds):
    print(f"{what:<44} {seconds:7.2f} s {rows / seconds:10,.0f} rows/s", flush=True)


def chunks_on(address, path, x, size, kill_at=None, client=None):
    """The answers of chunks, in order; with `kill_at`, one worker is killed when so many have come."""
    predictor = fastbilstm.BatchPredictor(path, columns="ids", n_threads=1)
    batches = ({"ids": x[start : start + size]} for start in range(0, len(x), size))
    found = []
    for number, batch in enumerate(engine.predict_chunks(predictor, batches, address)):
        if number == kill_at:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        found.append(batch["prediction"])
    return np.concatenate(found)[:, None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=25_000)
    parser.add_argument("--chunk", type=int, default=500, help="rows of a chunk (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    import dask.array as da
    import distributed

    x = pad(reviews(args.rows))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bilstm64.fbl"
        model = fastbilstm.convert(MODEL, path)
        expected = model.predict(x)
        print(f"{len(x):,} reviews of {x.shape[1]} ids, chunks of {args.chunk} rows, Dask {distributed.__version__}")
        for threads in (1, 2):
            seconds = timed(lambda n=threads: model.predict(x, n_threads=n), expected, args.rounds)
            tell(f"one process, {threads} thread{'s' * (threads > 1)}", len(x), seconds)
        for workers in (1, 2):
            options = {"n_workers": workers, "threads_per_worker": 1, "host": "127.0.0.1", "silence_logs": 50}
            with distributed.LocalCluster(dashboard_address="127.0.0.1:0", **options) as cluster:
                with distributed.Client(cluster) as client:
                    run(args, da, distributed, client, workers, path, x, expected)


def run(args, da, distributed, client, workers, path, x, expected):
    name = f"Dask, {workers} worker{'s' * (workers > 1)}"
    address = client.scheduler.address
    blocks = da.from_array(x, chunks=(args.chunk, -1)).map_blocks(np.copy).persist()
    distributed.wait(blocks)
    scored = engine.predict(path, blocks)
    scored[: 4 * workers * args.chunk].compute()  # each worker has loaded the model
    tell(f"{name}, array", len(x), timed(scored.compute, expected, args.rounds))
    seconds = timed(lambda: chunks_on(address, path, x, args.chunk), expected, args.rounds)
    tell(f"{name}, chunks", len(x), seconds)
    if workers > 1:
        third = len(x) // args.chunk // 3

        def killed():
            client.wait_for_workers(workers)
            return chunks_on(address, path, x, args.chunk, third, client)

        with_kill = timed(killed, expected, args.rounds)
        tell(f"{name}, chunks, one killed", len(x), with_kill)
        print(f"a killed worker costs {with_kill - seconds:.2f} s; every row came back once, to the bit")


if __name__ == "__main__":
    main()
