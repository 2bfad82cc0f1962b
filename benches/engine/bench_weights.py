"""What narrow weights save and cost: time, largest difference, labels that differ, size of the file.

    python benches/engine/bench_weights.py [--nets demo lstm512 tagger captcha ...] [--imdb FOLDER] [--rows 2000]

One thread, one core. Each form of ours takes its turn beside float32 of the rivals, dynamic quantization of ONNX
Runtime, LiteRT and PyTorch, bfloat16 of OpenVINO and its int8, which NNCF makes with the first 100 of the scored rows,
as far as they are installed (LiteRT with TensorFlow, which converts the net). Times are of one row and of 32 rows of
random ids or floats; "times" is beside float32 of the same engine. Differences and labels are beside our float32, which
has to be that of Keras, as float32 of the rivals has to be: on reviews for trained nets, on random rows for others.
"demo" is the BiLSTM(64) of tests/golden/demo with its 200 reviews; captcha, conv_lstm, activity, transformer and
pictures are nets with convolutions and attention, which Keras builds, without rivals; --imdb gives a folder with
imdb_5000.npz and imdb_NET.h5 for lstm64, bilstm64, stack, attention and masked_stack, whose first `--rows` test reviews
are scored. Prints the tables of RESULTS.md.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

if __name__ == "__main__":  # before NumPy and the engines start their pools
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the benches share
import engines
import handmade
import timing
from cells import DEMO, PADDED, pad, reviews
from engines import AS_CONVERTED, HAND_MADE, OURS, Files, Unavailable
from nets import AROUND, NETS, Input, Net, keras_file, named_weights, random_weights

import fastbilstm
from fastbilstm.converted.narrow_error import flips
from fastbilstm.engine.weight_forms import FORMS
from fastbilstm.tolerances import IMDB_PROBABILITY

EMBEDDING, SCORE = ("embedding", 5000, 128, False), ("dense", 1, "sigmoid")
RANDOM = {"lstm512": Net((EMBEDDING, ("lstm", 512), SCORE)), "tagger": NETS["tagger"]}
IMDB = ("lstm64", "bilstm64", "stack", "attention", "masked_stack")
BUILT = ("captcha", "conv_lstm", "activity", "transformer", "pictures")  # by Keras
TIMESTEPS = {"tagger": 100}
BATCH, SCORED = 32, 64  # rows of a batch: timed, and where differences are found
CALIBRATED = 100  # rows that NNCF is given
FLOAT32 = "float32"


@dataclass
class Case:
    """A net with its file and the rows that it is scored on; `answers`: of Keras, or None."""

    name: str
    net: Net | None  # None: one of BUILT
    path: Path
    x: np.ndarray
    labels: np.ndarray | None = None
    answers: np.ndarray | None = None

    def timed(self, rows):
        """Random rows."""
        return self.input().random(np.random.default_rng([1, rows]), rows)

    def input(self):
        if self.net is None:
            return AROUND[self.name][0]
        features, steps = self.net.features, TIMESTEPS.get(self.name, PADDED)
        return Input((steps, features)) if features else Input((steps,), self.net.layers[0][1])


@dataclass
class Runner:
    """An engine in a form: `engine` as those of engines.py, bytes of its file, and what was found."""

    name: str
    form: str
    engine: object
    size: int | None
    found: dict = field(default_factory=dict)

    def answers(self, x, rows=SCORED):
        parts = []
        for at in range(0, len(x), rows):
            given = self.engine.arrange(x[at : at + rows])
            parts.append(np.array(self.engine.rows(self.engine.run(given), given)))
        return np.concatenate(parts)


# ---- nets -----------------------------------------------------------------------------------------------------------


def demo():
    with np.load(DEMO / "reviews.npz") as file:
        labels, answers = file["labels"], file["keras_prob"][:, None]
    return Case("demo", NETS["bilstm64"], DEMO / "bilstm64.h5", pad(reviews(len(labels))), labels, answers)


def trained(folder, name, rows):
    with np.load(folder / "imdb_5000.npz") as file:
        ids, offsets, labels = (file[f"test_{part}"] for part in ("ids", "offsets", "labels"))
    texts = [ids[offsets[k] : offsets[k + 1]].astype(np.int32) for k in range(rows)]
    with np.load(folder / f"imdb_{name}_expected.npz") as file:
        answers = file["prob"][:rows]
    answers = answers if len(answers) == rows else None
    return Case(name, NETS[name], folder / f"imdb_{name}.h5", pad(texts), labels[:rows], answers)


def untrained(name, folder, net=None, rows=64):
    net = net or RANDOM[name]
    path = Path(folder) / f"{name}.h5"
    path.write_bytes(keras_file(net, random_weights(net)))
    case = Case(name, net, path, None)
    case.x = case.timed(rows)
    return case


def built(name, folder):
    import around_nets
    import keras

    keras.utils.set_random_seed(1)
    given = [keras.Input(one.shape, dtype=one.dtype, name=one.name) for one in AROUND[name]]
    case = Case(name, None, Path(folder) / f"{name}.keras", None)
    keras.Model(given, getattr(around_nets, name)(*given)).save(case.path)
    case.x = case.timed(64)
    return case


# ---- engines --------------------------------------------------------------------------------------------------------


class Ours:
    """A converted file in a form."""

    def __init__(self, case, folder, form):
        self.path = Path(folder) / f"{case.name}_{form}.fbl"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of labels that differ, which the table counts
            fastbilstm.convert(case.path, self.path, weights=form)
        self.model = fastbilstm.load(self.path, n_threads=1)

    def arrange(self, x):
        return x

    def run(self, x):
        return self.model.predict(x, batch_size=len(x))

    def rows(self, answer, given):
        return answer


class QuantizedPyTorch(engines.PyTorch):
    """PyTorch's dynamic quantization of the recurrent layers."""

    def __init__(self, net, weights, files):
        import torch

        kinds = {torch.nn.LSTM, torch.nn.GRU}
        change = lambda module: torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(module), kinds)[0]  # noqa: E731
        torch.set_num_threads(1)
        engines._Rival.__init__(self, files)
        self.torch, self.forward = torch, handmade.torch_net(net, weights, change)


def openvino_bfloat16(files):
    engine = engines.OpenVINO(files, 1, HAND_MADE)
    engine.options["INFERENCE_PRECISION_HINT"] = "bf16"
    return engine


class QuantizedOpenVINO(engines.OpenVINO):
    """OpenVINO's int8, calibrated by NNCF; the file is written for its size alone."""

    def __init__(self, files, x, target):
        import nncf

        super().__init__(files, 1, HAND_MADE)
        self.nncf, self.samples, self.target = nncf, x[:CALIBRATED], target

    def read(self, kind):
        step = 1 if kind == "handmade" else 8  # the model with lengths takes rows of several
        parts = (self.inputs(self.samples[at : at + step]) for at in range(0, len(self.samples), step))
        feeds = [given for found, given, _ in parts if found == kind]
        with contextlib.redirect_stdout(sys.stderr):  # its progress
            model = self.nncf.quantize(super().read(kind), self.nncf.Dataset(feeds), subset_size=len(feeds))
        self.openvino.save_model(model, self.target)
        return model


def litert(case, files, target, quantize=False):
    """LiteRT on the Keras net, converted into the folder `target`; `quantize`: kernels to int8, of dynamic range."""
    import keras
    import litert_nets

    model = keras.models.load_model(case.path, compile=False)
    kinds = {f"{rows}.tflite": (rows, False) for rows in (1, BATCH, SCORED)}
    target.mkdir(exist_ok=True)
    for kind, (rows, _) in kinds.items():
        try:
            content = litert_nets.convert(model, [case.input()], rows, quantize)
        except Exception as error:
            raise Unavailable(litert_nets.problem(error)) from error
        (target / f"{files.net}.{kind}").write_bytes(content)
    return engines.LiteRT(Files(str(target), files.net, {}), 1, AS_CONVERTED, kinds)


def quantized_onnx(files, folder):
    """The ONNX files with ONNX Runtime's dynamic quantization, in another folder."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = Path(folder) / "int8"
    target.mkdir(exist_ok=True)
    for path in Path(files.folder).glob(f"{files.net}*.onnx"):
        quantize_dynamic(path, target / path.name, weight_type=QuantType.QInt8)
    return Files(str(target), files.net, {})


def rivals(case, folder):
    """Yield (name, form, a function that makes the engine, its file or None)."""
    model = fastbilstm.load(case.path)
    weights = named_weights(case.net, model.get_weights())
    key = next(name for name, net in (NETS | RANDOM).items() if net == case.net)
    NETS.setdefault(key, case.net)  # where the engines look a net up
    files = Files(str(folder), key, {})
    np.savez(Path(folder) / f"{key}.npz", **{f"{n}/{k}": a for n, of in weights.items() for k, a in enumerate(of)})

    def onnx(then):
        path = Path(folder) / f"{key}.onnx"
        if not path.exists():
            handmade.write_onnx(case.net, weights, path)
            if case.net.masked:
                handmade.write_onnx(case.net, weights, Path(folder) / f"{key}.lengths.onnx", masked=True)
        return then()

    narrow = Path(folder) / "int8" / f"{key}.onnx"
    wide = Path(folder) / f"{key}.onnx"
    session = partial(engines.OnnxRuntime, threads=1, form=HAND_MADE)
    yield "ONNX Runtime", FLOAT32, lambda: onnx(lambda: session(files)), wide
    yield "ONNX Runtime", "int8, dynamic", lambda: onnx(lambda: session(quantized_onnx(files, folder))), narrow
    yield "OpenVINO", FLOAT32, lambda: onnx(lambda: engines.OpenVINO(files, 1, HAND_MADE)), wide
    yield "OpenVINO", "bfloat16", lambda: onnx(lambda: openvino_bfloat16(files)), wide
    calibrated = Path(folder) / f"{key}.xml"
    make = lambda: QuantizedOpenVINO(files, case.x, calibrated)  # noqa: E731
    yield "OpenVINO", "int8, NNCF", lambda: onnx(make), calibrated.with_suffix(".bin")
    for form, quantize in ((FLOAT32, False), ("int8, dynamic", True)):
        own = Path(folder) / f"litert_{quantize}"
        yield "LiteRT", form, partial(litert, case, files, own, quantize), own / f"{key}.1.tflite"
    yield "PyTorch", FLOAT32, lambda: engines.PyTorch(files, 1), None
    yield "PyTorch", "int8, dynamic", lambda: QuantizedPyTorch(case.net, weights, files), None


def runners(case, folder, others=True):
    """(Runners with their answers, sentences about those that have none)."""
    found, missing = [], []
    for form in FORMS:
        engine = Ours(case, folder, form)
        found.append(Runner(OURS, form, engine, engine.path.stat().st_size))
        found[-1].found["answers"] = found[-1].answers(case.x)
    for name, form, make, path in rivals(case, folder) if others and case.net is not None else ():
        try:
            runner = Runner(name, form, make(), None)
            runner.found["answers"] = runner.answers(case.x)
            for rows in (1, BATCH):  # of other shapes, which an engine may not compile
                runner.answers(case.timed(rows))
            runner.size = path.stat().st_size if path is not None and path.exists() else None
            found.append(runner)
        except (ImportError, AttributeError, Unavailable, RuntimeError, ValueError) as error:
            missing.append(f"{name}, {form}: {engines.reason(error, str(folder))}")
    return found, missing


# ---- measuring ------------------------------------------------------------------------------------------------------


def check(case, found):
    """Compare float32 of all engines with the first one's, and that with Keras' answers; exit where they differ."""
    first = found[0].found["answers"]
    if case.answers is not None and np.abs(first - case.answers).max() > IMDB_PROBABILITY:
        raise SystemExit(f"{case.name}: differs from what Keras answered")
    for runner in found[1:]:
        largest = np.abs(runner.found["answers"] - first).max()
        if runner.form == FLOAT32 and largest > 2 * IMDB_PROBABILITY:
            raise SystemExit(f"{case.name}: {runner.name} in float32 differs by {largest:.2g}")


def measure(case, found, rounds, budget):
    """Fill `found` of each Runner: errors, and milliseconds for one row and for 32."""
    check(case, found)
    first = found[0].found["answers"]
    for runner in found:
        y = runner.found["answers"]
        runner.found |= {"largest": float(np.abs(y - first).max()), "flips": flips(y, first)}
        if case.labels is not None:
            runner.found["accuracy"] = float(((y[:, 0] > 0.5) == case.labels).mean())
    for rows in (1, BATCH):
        x = case.timed(rows)
        calls = [partial(runner.engine.run, runner.engine.arrange(x)) for runner in found]
        for runner, seconds in zip(found, timing.in_turns(calls, rounds, budget)):
            runner.found[rows] = timing.summary(seconds)["median"]


def table(case, found, missing):
    """Lines of Markdown."""
    yield f"{case.name}: {len(case.x)} rows scored" + (", checked against Keras" if case.answers is not None else "")
    yield ""
    yield "| engine | form | MB | 1 row, ms | times | 32 rows, ms | times | largest difference | flips | accuracy |"
    yield "| --- " * 10 + "|"
    wide = {runner.name: runner.found for runner in found if runner.form == FLOAT32}
    for runner in found:
        own = runner.found
        cells = [runner.name, runner.form, "" if runner.size is None else f"{runner.size / 1e6:.2f}"]
        for rows in (1, BATCH):
            cells += [f"{own[rows]:.3f}", f"{wide[runner.name][rows] / own[rows]:.2f}"]
        flipped, labels = own["flips"]
        cells += [f"{own['largest']:.2g}", f"{flipped} of {labels}" if labels else ""]
        cells.append(f"{own['accuracy']:.4f}" if "accuracy" in own else "")
        yield f"| {' | '.join(cells)} |"
    yield from ("", *(f"- Not measured: {line}" for line in missing)) if missing else ()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nets", nargs="+", choices=("demo", *RANDOM, *BUILT), default=["demo", *RANDOM])
    parser.add_argument("--imdb", type=Path, metavar="FOLDER")
    parser.add_argument("--rows", type=int, default=2000, help="reviews of --imdb that are scored (default: 2000)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=30.0, help="seconds a net and size of batch (default: 30)")
    given = parser.parse_args()
    print(f"fastbilstm {fastbilstm.__version__}, {engines.os.uname().machine}, one thread")
    with tempfile.TemporaryDirectory(prefix="fastbilstm-") as folder:
        makers = [
            demo if name == "demo" else partial(built if name in BUILT else untrained, name, folder)
            for name in given.nets
        ]
        makers += [partial(trained, given.imdb, name, given.rows) for name in IMDB if given.imdb is not None]
        for make in makers:
            case = make()
            own = Path(folder) / f"engines_{case.name}"  # two cases may be one net with other weights
            own.mkdir()
            found, missing = runners(case, own)
            measure(case, found, given.rounds, given.budget)
            print("\n".join(["", *table(case, found, missing)]), flush=True)


def bench_small_net_once(tmp_path):
    """Without rivals and with five timesteps: every form answers, and the table has a line for each."""
    net = Net((("embedding", 20, 3, False), ("bilstm", 4, False, "concat"), ("dense", 2, "softmax")))
    TIMESTEPS["small"] = 5
    case = untrained("small", tmp_path, net, 8)
    found, missing = runners(case, tmp_path, others=False)
    measure(case, found, 1, 1.0)
    lines = list(table(case, found, missing))
    assert len(lines) == 4 + len(FORMS) and not missing
    assert found[0].found["largest"] == 0 < found[-1].found["largest"] < 0.1


if __name__ == "__main__":
    main()
