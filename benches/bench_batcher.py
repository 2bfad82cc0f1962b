"""Single requests of an asyncio service: a Batcher beside direct calls and beside a thread for each call.

    python benches/bench_batcher.py [--clients 1 8 64] [--seconds 1] [--rounds 5]

Each client sends its next request when it has its answer; a time includes the wait for its turn. One process, one
thread of the kernels for each batch. "direct": `model.predict` in the event loop, which stands still meanwhile;
"to_thread": `asyncio.to_thread(model.predict, ...)`. Ways take turns; medians over the rounds. Reviews of the demo, pad
400 and unmasked, by the demo's BiLSTM(64), and 60 timesteps of 4 sensors by an LSTM(64). Answers are checked.
"""

import argparse
import asyncio
import statistics
import time

import numpy as np
from cells import DEMO, pad, reviews
from nets import NETS, keras_file, random_weights

import fastbilstm
from fastbilstm.aio import Batcher


def loads():
    """{name: (model, rows)}."""
    sensors = NETS["lstm64_60x4"]
    rng = np.random.default_rng(0)
    return {
        "BiLSTM(64), 400 tokens": (fastbilstm.load(DEMO / "bilstm64.h5", n_threads=1), pad(reviews(200))),
        "LSTM(64), 60 x 4": (
            fastbilstm.load(keras_file(sensors, random_weights(sensors)), n_threads=1),
            rng.standard_normal((200, 60, 4)).astype(np.float32),
        ),
    }


async def serve(way, model, rows, clients, seconds, expected):
    """Seconds that each request took."""
    spent, begun = [], time.perf_counter()

    async def client(number, ask):
        while (start := time.perf_counter()) - begun < seconds:
            number = (number + 1) % len(rows)
            await asyncio.sleep(0)
            y = await ask(number)
            spent.append(time.perf_counter() - start)
            if not np.array_equal(y.ravel(), expected[number].ravel()):
                raise SystemExit(f"{way}: another answer")

    async def direct(number):
        return model.predict(rows[number : number + 1])

    async def to_thread(number):
        return await asyncio.to_thread(model.predict, rows[number : number + 1])

    async with Batcher(model) as batcher:
        ask = {"direct": direct, "to_thread": to_thread, "Batcher": lambda number: batcher.predict(rows[number])}[way]
        await asyncio.gather(*(client(7 * number, ask) for number in range(clients)))
    return spent


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{'net':<24} {'clients':>7} {'way':<10} {'requests/s':>10} {'p50, ms':>8} {'p95, ms':>8}")
    for name, (model, rows) in loads().items():
        expected = model.predict(rows)
        for clients in given.clients:
            found = {"direct": [], "to_thread": [], "Batcher": []}
            for _ in range(given.rounds):
                for way, rounds in found.items():
                    spent = asyncio.run(serve(way, model, rows, clients, given.seconds, expected))
                    rounds.append((len(spent) / given.seconds, *np.percentile(np.multiply(spent, 1e3), (50, 95))))
            for way, rounds in found.items():
                rate, p50, p95 = map(statistics.median, zip(*rounds))
                print(f"{name:<24} {clients:>7} {way:<10} {rate:>10,.0f} {p50:>8.2f} {p95:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
