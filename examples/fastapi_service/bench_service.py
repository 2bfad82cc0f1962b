"""The load test of service.py: 1, 4 and 16 clients, beside the same service on ONNX Runtime.

    python examples/fastapi_service/bench_service.py [--net demo] [--clients 1 4 16] [--seconds 3] [--rounds 3]

Each client sends its next request over its open connection when it has its answer. Services take turns; medians over
the rounds. The texts are 200 pieces, of 10 to 200 words, of the sample's ten reviews. Clients share the cores with the
service. All answers are compared with those of `Model.classify`. The net is the sample, BiLSTM(16) with attention, or
with `--net demo` that of tests/golden/demo, BiLSTM(64) over 400 tokens, padded. Needs FastAPI, uvicorn, onnx,
onnxruntime, and h5py for the demo.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

import fastbilstm

HERE = Path(__file__).resolve().parent
BENCHES = HERE.parents[1] / "benches"
DEMO = HERE.parents[1] / "tests" / "golden" / "demo" / "bilstm64.h5"


@contextlib.contextmanager
def served(module, workers, **environment):
    """The port of a service that answers; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(HERE / "serve.py"), "--app", f"{module}:app"]
    command += ["--port", str(port), "--workers", str(workers)]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}) as process:
        try:
            wait_for(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def wait_for(port, process, seconds=60):
    """Return when the service says that it is healthy."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
                if json.load(response)["status"] == "ok":
                    return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise RuntimeError(f"no answer within {seconds} s")


# The sample. A request is a row without padding, so that its mask does nothing.
SAMPLE = (
    ("embedding", 5000, 16, False),
    ("bilstm", 16, True, "concat"),
    ("attention_mean", "scale"),
    ("dense", 1, "sigmoid"),
)


def weights_of(model, layers):
    """(the net of these layers as the benches describe it, the weights of a Model by its names)."""
    sys.path.insert(0, str(BENCHES))
    from nets import Net, layer_parts

    net, left, weights = Net(layers), model.get_weights(), {}
    for _, _, parts in layer_parts(net):
        for part, shapes in parts:
            weights[part], left = left[: len(shapes)], left[len(shapes) :]
            if [array.shape for array in weights[part]] != shapes:
                raise RuntimeError(f"model {model.name!r} has another {part} than the layers {layers}")
    if left:
        raise RuntimeError(f"model {model.name!r} has more layers than {layers}")
    return net, weights


def write_models(name, folder):
    """Files of the net for both services, and the net: (path of the .fbl, path of the .onnx, Model)."""
    model, fbl, onnx = fastbilstm.sample_model(), Path(folder, "model.fbl"), Path(folder, "model.onnx")
    layers = SAMPLE
    if name == "demo":
        options = {"tokenizer": model.text.tokenizer, "maxlen": 400, "labels": model.labels}
        model = fastbilstm.convert(DEMO, fbl, **options)
        layers = (("embedding", 5000, 128, False), ("bilstm", 64, False, "concat"), ("dense", 1, "sigmoid"))
    else:
        model.save(fbl)
    net, weights = weights_of(model, layers)
    from handmade import write_onnx

    write_onnx(net, weights, onnx)
    return str(fbl), str(onnx), model


def made_texts(count=200):
    """Pieces of the sample's reviews."""
    rng, tokenizer = np.random.default_rng(0), fastbilstm.sample_model().text.tokenizer
    ids, _ = fastbilstm.sample_reviews()
    words = {rank + tokenizer.index_from: word for word, rank in tokenizer.word_index.items()}
    known = [words[i] for row in ids for i in row.tolist() if i in words]
    starts, lengths = rng.integers(0, len(known) - 200, count), rng.integers(10, 201, count)
    return [" ".join(known[start : start + length]) for start, length in zip(starts, lengths)]


async def ask(reader, writer, text):
    """One request over an open connection; the answer."""
    body = json.dumps({"text": text}).encode()
    head = ("POST /classify HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}")
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    (length,) = (int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    content = await reader.readexactly(length)
    if " 200 " not in lines[0]:
        raise RuntimeError(f"{lines[0]}: {content.decode()}")
    return json.loads(content)


async def load(port, clients, seconds, texts, expected):
    """The seconds that each request took."""
    spent, until = [], time.perf_counter() + seconds

    async def client(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < until:
            number = (number + 1) % len(texts)
            found = await ask(reader, writer, texts[number])
            spent.append(time.perf_counter() - start)
            wanted = expected[number]
            if found["label"] != wanted["label"] or abs(found["score"] - wanted["score"]) > 1e-5:
                raise RuntimeError(f"another answer: {found} for {wanted}")
        writer.close()

    await asyncio.gather(*(client(17 * number) for number in range(clients)))
    return spent


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--net", choices=("sample", "demo"), default="sample")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    texts = made_texts()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        fbl, onnx, model = write_models(given.net, folder)
        expected = model.classify(texts)
        ports = {
            "fastbilstm": stack.enter_context(served("service", given.workers, MODEL=fbl)),
            "ONNX Runtime": stack.enter_context(served("onnx_service", given.workers, MODEL=fbl, ONNX=onnx)),
        }
        print(f"{'clients':>7} {'service':<12} {'requests/s':>10} {'p50, ms':>8} {'p99, ms':>8}")
        for clients in given.clients:
            found = {name: [] for name in ports}
            for turn in range(given.rounds):
                for name, port in list(ports.items())[:: 1 if turn % 2 else -1]:
                    spent = asyncio.run(load(port, clients, given.seconds, texts, expected))
                    found[name].append((len(spent) / given.seconds, *np.percentile(np.multiply(spent, 1e3), (50, 99))))
            for name, rounds in found.items():
                rate, p50, p99 = map(statistics.median, zip(*rounds))
                print(f"{clients:>7} {name:<12} {rate:>10,.0f} {p50:>8.2f} {p99:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
