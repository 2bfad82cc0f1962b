"""Single rows of different lengths, one call after the other, as a service gets texts that nobody pads.

    python benches/engine/bench_lengths.py [--nets lstm64 bilstm64 stack attention] [--rows 1000] [--rounds 5]

One thread. The rows are made reviews (`cells.reviews`), each as long as it is, up to 400 timesteps; every engine
answers all of them in its turn of each round. The rivals' nets are hand-made, and OpenVINO's is compiled once for all
lengths. "repeated": the same rows in the order of their lengths, each called several times in a row, of which the last
call counts. Prints the table of RESULTS.md.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the benches share
import engines
import handmade
from cells import PADDED, reviews
from engines import HAND_MADE, OURS, Files
from nets import NETS, keras_file, named_weights, random_weights

import fastbilstm

REPEATS = 4
LARGEST = 1e-5  # difference of the answers


class Ours:
    def __init__(self, content):
        self.model = fastbilstm.load(content, n_threads=1, any_length=True)

    def arrange(self, x):
        return x

    def run(self, x):
        return self.model.predict(x)

    def rows(self, answer, given):
        return answer


class OpenVINO(engines.OpenVINO):
    def request(self, kind, feeds):
        if kind not in self.compiled:
            self.compiled[kind] = self.core.compile_model(self.read(kind), "CPU", self.options).create_infer_request()
        return self.compiled[kind]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nets", nargs="+", default=["lstm64", "bilstm64", "stack", "attention"], choices=NETS)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    texts = rows_of_reviews(given.rows)
    print("| net | engine | median, ms | 95 per cent | repeated, ms |")
    print("| --- " * 5 + "|")
    for net in given.nets:
        with tempfile.TemporaryDirectory(prefix="fastbilstm-") as folder:
            for name, found in measure(made(net, folder), texts, given.rounds).items():
                cells = (*np.percentile(found["rows"], (50, 95)), np.median(found["repeated"]))
                print(f"| {net} | {name} | " + " | ".join(f"{1e3 * t:.3f}" for t in cells) + " |", flush=True)


def rows_of_reviews(count):
    return [np.asarray(row[-PADDED:], np.int32)[np.newaxis] for row in reviews(count)]


def made(net, folder):
    """{name: engine}."""
    arrays = random_weights(NETS[net])
    content, files = keras_file(NETS[net], arrays), Files(folder, net, {})
    found = {OURS: Ours(content)}
    weights = named_weights(NETS[net], found[OURS].model.get_weights())
    np.savez(files.path("npz"), **{f"{n}/{k}": a for n, of in weights.items() for k, a in enumerate(of)})
    handmade.write_onnx(NETS[net], weights, files.path("handmade"))
    for name, make in {
        "ONNX Runtime": lambda: engines.OnnxRuntime(files, 1, HAND_MADE),
        "OpenVINO": lambda: OpenVINO(files, 1, HAND_MADE),
        "PyTorch": lambda: engines.PyTorch(files, 1),
    }.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name} is not measured: {error}", file=sys.stderr)
    return found


def measure(found, texts, rounds):
    """{name: {"rows": seconds of each call, "repeated": of each row}}."""
    given = {name: [engine.arrange(x) for x in texts] for name, engine in found.items()}
    seconds = {name: {"rows": [], "repeated": []} for name in found}
    for k in range(0, len(texts), 50):
        answers = {name: engine.rows(engine.run(given[name][k]), given[name][k]) for name, engine in found.items()}
        for name, y in answers.items():
            if np.abs(y - answers[OURS]).max() > LARGEST:
                raise SystemExit(f"{name} differs from {OURS}")
    order = np.argsort([x.shape[1] for x in texts], kind="stable")
    for number in range(rounds + 1):  # the first one does not count
        for name, engine in found.items():
            rows = [timed(engine, at) for at in given[name]]
            repeated = [[timed(engine, given[name][k]) for _ in range(REPEATS)][-1] for k in order]
            if number:
                seconds[name]["rows"] += rows
                seconds[name]["repeated"] += repeated
    return seconds


def timed(engine, given):
    start = time.perf_counter()
    engine.run(given)
    return time.perf_counter() - start


def bench_lengths_once():
    """Ours alone, and fewer rows: each is timed in each round, in both ways."""
    found = measure({OURS: Ours(keras_file(NETS["lstm64"], random_weights(NETS["lstm64"])))}, rows_of_reviews(5), 2)
    assert [len(times) for times in found[OURS].values()] == [10, 10]


if __name__ == "__main__":
    main()
