"""A child process of `bench_rivals.py`: how fastbilstm's time grows with timesteps, batch and units, auto beside blas.

    python sweeps.py JOB.json     writes one JSON line for each point to the job's "results" file

One thread. Weights are random, written as a Keras file in memory; no other engine is imported.
"""

import json
import sys

import numpy as np
from nets import FEATURES, NETS, SCORE, VOCABULARY, Net, keras_file, random_weights
from timing import in_turns, summary

import fastbilstm

BACKENDS = ("auto", "blas")
TIMESTEPS = (100, 300, 1000, 3000, 10000)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
UNITS = (8, 16, 32, 64, 128, 256, 512, 1024)
UNITS_TIMESTEPS = 100
QUICK = {"T": (100, 1000), "batch": (1, 32), "units": (8, 64, 256)}


def load(net, threads):
    """Backend -> model, or the reason why there is none."""
    content, models, problems = keras_file(net, random_weights(net)), {}, {}
    for backend in BACKENDS:
        try:
            models[backend] = fastbilstm.load(content, backend=backend, n_threads=threads)
        except fastbilstm.FastBiLSTMError as error:
            problems[backend] = str(error)[:200]
    return models, problems


def point(sweep, value, net, x, job):
    models, problems = load(net, job["threads"])
    calls = [lambda m=model: m.predict(x, batch_size=len(x)) for model in models.values()]
    samples = in_turns(calls, job["rounds"], job["budget"])
    row = {"sweep": sweep, "value": value, "batch": len(x), "timesteps": x.shape[1], "threads": job["threads"]}
    row["backends"] = {backend: summary(seconds) for backend, seconds in zip(models, samples)}
    return row | {"problems": problems}


def points(quick, net=NETS["bilstm64"]):
    """Yield (sweep, value, net, input)."""
    rng = np.random.default_rng(5)
    chosen = QUICK if quick else {"T": TIMESTEPS, "batch": BATCHES, "units": UNITS}
    for batch in (1, 32):
        for timesteps in chosen["T"]:
            yield "T", timesteps, net, rng.integers(1, VOCABULARY, (batch, timesteps), dtype=np.int32)
    for batch in chosen["batch"]:
        yield "batch", batch, net, rng.integers(1, VOCABULARY, (batch, 400), dtype=np.int32)
    for batch in (1, 32):
        x = rng.standard_normal((batch, UNITS_TIMESTEPS, FEATURES)).astype(np.float32)
        for units in chosen["units"]:
            yield "units", units, Net((("lstm", units), SCORE), features=FEATURES), x


def main(job):
    for sweep, value, net, x in points(job["quick"]):
        with open(job["results"], "a") as file:
            file.write(json.dumps(point(sweep, value, net, x, job)) + "\n")
        print(f"  [sweep] {sweep} {value}, batch {len(x)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    with open(sys.argv[1]) as job_file:
        main(json.load(job_file))
