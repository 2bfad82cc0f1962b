"""One class for each engine, all used alike: `arrange(x)` makes its input (not timed for rivals), `run(given)` answers
(timed), `rows(answer, given)` puts the answer as Keras gives it (not timed).

Each constructor imports its engine, so that a missing one is an ImportError of that engine alone. `CANDIDATES` lists
what can be measured. Knows nothing of times.
"""

import copy
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import handmade
import numpy as np
from cells import AS_CONVERTED, HAND_MADE, UNROLLED, as_tuple, litert_files
from nets import AROUND, NETS, input_names, load_weights

OURS, BASELINE, ROW_BY_ROW = "fastbilstm", "not counted", "row by row, not counted"
ONE_THREAD = ", 1 thread"
ENGINES = {  # the names of the command line
    "fastbilstm": OURS,
    "blas": f"{OURS}, backend blas",
    "ort": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "torch": "PyTorch",
    "tensorflow": "TensorFlow, SavedModel",
    "keras": "TensorFlow, Keras predict_on_batch",
}


class Unavailable(Exception):
    """An engine that cannot be measured, with the reason."""


_SUFFIX = {"converted": "converted.onnx", "handmade": "onnx", "lengths": "lengths.onnx"}


@dataclass(frozen=True)
class Files:
    """The files of a net in the cache folder; `problems`: what `keras_nets` and `handmade` could not write, and why."""

    folder: str
    net: str
    problems: dict

    def path(self, kind):
        if problem := self.problems.get(kind):
            raise Unavailable(problem)
        return os.path.join(self.folder, f"{self.net}.{_SUFFIX.get(kind, kind)}")


class FastBiLSTM:
    """The Keras file, loaded as it is; `predict` on the rows as they come."""

    def __init__(self, files, threads, backend="auto"):
        import fastbilstm

        kind = "keras" if "keras" not in files.problems else "h5"
        self.detail = None if kind == "keras" else "on a .h5 that Keras did not write"
        self.model = fastbilstm.load(files.path(kind), backend=backend, n_threads=threads)

    def arrange(self, x):
        return (list(x), len(x[0])) if isinstance(x, tuple) else (x, len(x))

    def run(self, given):
        return self.model.predict(given[0], batch_size=given[1])

    def rows(self, answer, given):
        return answer

    def another(self):
        """What another Python thread may use at the same time: the same model, for every engine."""
        return self


class _Rival:
    """Both forms of a net: input arranged by `handmade.arrange` for nets that it makes, as it is for the others."""

    def __init__(self, files, form=HAND_MADE):
        self.files, self.arranged = files, form == HAND_MADE and files.net not in AROUND
        self.plain = "converted" if form == AS_CONVERTED else "handmade"

    def inputs(self, x):
        """(kind of file, {input: array}, order of the rows in it or None)."""
        if not self.arranged:
            return self.plain, dict(zip(input_names(self.files.net), as_tuple(x))), None
        x, lengths, order = handmade.arrange(NETS[self.files.net], x)
        return ("handmade", {"x": x}, order) if lengths is None else ("lengths", {"x": x, "lengths": lengths}, order)

    def rows(self, answer, given):
        order = given[-1]
        if order is None:
            return answer
        return handmade.restore(np.array(answer), order, handmade.returns_sequences(NETS[self.files.net]))

    def another(self):
        return self


class OnnxRuntime(_Rival):
    def __init__(self, files, threads, form):
        import onnxruntime

        super().__init__(files, form)
        self.onnxruntime, self.sessions = onnxruntime, {}
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads, self.options.inter_op_num_threads = threads, 1
        self.options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.options.log_severity_level = 3

    def session(self, kind):
        if kind not in self.sessions:
            arguments = self.files.path(kind), self.options
            self.sessions[kind] = self.onnxruntime.InferenceSession(*arguments, providers=["CPUExecutionProvider"])
        return self.sessions[kind]

    def arrange(self, x):
        kind, feeds, order = self.inputs(x)
        return self.session(kind), feeds, order

    def run(self, given):
        session, feeds, _ = given
        return session.run(None, feeds)[0]


class OpenVINO(_Rival):
    """Compiled for each shape it meets, in float32 (its default on newer CPUs is bfloat16)."""

    def __init__(self, files, threads, form):
        import openvino

        super().__init__(files, form)
        self.openvino, self.compiled, self.requests = openvino, {}, {}
        self.core, self.detail = openvino.Core(), None
        self.options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        self.options["INFERENCE_PRECISION_HINT"] = "f32"
        if form == AS_CONVERTED:
            try:
                self.core.read_model(files.path("converted"))
            except RuntimeError:
                self.core.read_model(files.path("saved"))
                self.plain = "saved"
                self.detail = "read from the SavedModel, fails on the ONNX file"

    def read(self, kind):
        return self.core.read_model(self.files.path(kind))

    def request(self, kind, feeds):
        key = kind, *(array.shape for array in feeds.values())
        if key not in self.compiled:
            model = self.read(kind)
            model.reshape({name: list(array.shape) for name, array in feeds.items()})
            self.compiled[key] = self.core.compile_model(model, "CPU", self.options)
        if key not in self.requests:
            self.requests[key] = self.compiled[key].create_infer_request()
        return self.requests[key]

    def another(self):
        other = copy.copy(self)
        other.requests = {}  # one for each thread
        return other

    def arrange(self, x):
        kind, feeds, order = self.inputs(x)
        tensors = {name: self.openvino.Tensor(array) for name, array in feeds.items()}
        return self.request(kind, feeds), tensors, order

    def run(self, given):
        request, tensors, _ = given
        for name, tensor in tensors.items():
            request.set_tensor(name, tensor)
        request.infer()
        return request.get_output_tensor(0).data.copy()


class OnnxRuntimeRows(OnnxRuntime):
    """One row after the other, each cut at its own length: no mask is needed."""

    def arrange(self, x):
        return [super(OnnxRuntimeRows, self).arrange(x[at : at + 1]) for at in range(len(x))]

    def run(self, given):
        return [super(OnnxRuntimeRows, self).run(row) for row in given]

    def rows(self, answer, given):
        return np.concatenate([super(OnnxRuntimeRows, self).rows(*pair) for pair in zip(answer, given)])


class LiteRT:
    """One file for each batch: the shapes are fixed. Fewer rows go into the next larger batch, with zeros after them.

    Hand-made is the same Keras net with its recurrent layers unrolled.
    """

    def __init__(self, files, threads, form, kinds=None):
        from ai_edge_litert.interpreter import Interpreter

        self.files, self.interpreters = files, {}
        self.load = partial(Interpreter, num_threads=threads)  # with XNNPACK
        kinds = (litert_files(files.net) if kinds is None else kinds).items()
        self.kinds = {batch: kind for kind, (batch, unroll) in kinds if unroll == (form == HAND_MADE)}

    def interpreter(self, batch):
        """(interpreter, places of the inputs, place of the output)."""
        if batch not in self.interpreters:
            made = self.load(self.files.path(self.kinds[batch]))
            made.allocate_tensors()
            signature = made.get_signature_runner()
            given, (output,) = signature.get_input_details(), signature.get_output_details().values()
            places = [given[name]["index"] for name in input_names(self.files.net)]
            self.interpreters[batch] = made, places, output["index"]
        return self.interpreters[batch]

    def arrange(self, x):
        x = as_tuple(x)
        rows = len(x[0])
        batch = min((size for size in self.kinds if size >= rows), default=None)
        if batch is None:
            raise Unavailable(f"no file for {rows} rows")
        x = [np.concatenate([part, np.zeros((batch - rows, *part.shape[1:]), part.dtype)]) for part in x]
        return *self.interpreter(batch), x, rows

    def run(self, given):
        interpreter, places, output, x, _ = given
        for place, part in zip(places, x):
            interpreter.set_tensor(place, part)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    def rows(self, answer, given):
        return answer[: given[-1]]

    def another(self):
        other = copy.copy(self)
        other.interpreters = {}  # one for each thread
        return other


class PyTorch(_Rival):
    def __init__(self, files, threads):
        import torch

        torch.set_num_threads(threads)
        super().__init__(files)
        self.torch = torch
        weights = load_weights(files.path("npz"))
        if files.net in AROUND:
            import around_torch

            self.forward = around_torch.torch_net(files.net, weights)
        else:
            self.forward = handmade.torch_net(NETS[files.net], weights)

    def arrange(self, x):
        _, feeds, order = self.inputs(x)
        tensors = [self.torch.from_numpy(array) for array in feeds.values()]
        if "lengths" in feeds:
            tensors = [self.torch.nn.utils.rnn.pack_padded_sequence(tensors[0], tensors[1].long())]
        return tensors, order

    def run(self, given):
        return self.forward(*given[0])


def _tensorflow(threads):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow

    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        pass  # set before, by an engine of the same process and number of threads
    return tensorflow


class TensorFlowGraph:
    """The exported SavedModel's concrete function."""

    def __init__(self, files, threads):
        self.tensorflow = _tensorflow(threads)
        self.loaded = self.tensorflow.saved_model.load(files.path("saved"))
        self.function = self.loaded.signatures["serving_default"]
        self.names = input_names(files.net)

    def arrange(self, x):
        return {name: self.tensorflow.constant(array) for name, array in zip(self.names, as_tuple(x))}

    def run(self, given):
        return next(iter(self.function(**given).values())).numpy()

    def rows(self, answer, given):
        return answer

    def another(self):
        return self


class TensorFlowKeras:
    """`predict_on_batch` of the Keras model, which is `predict` without its loop over batches."""

    def __init__(self, files, threads):
        _tensorflow(threads)
        import keras

        self.model = keras.models.load_model(files.path("keras"), compile=False)

    def arrange(self, x):
        return list(x) if isinstance(x, tuple) else x

    def run(self, x):
        return self.model.predict_on_batch(x)

    def rows(self, answer, given):
        return answer


def one_thread(make):
    return lambda files, threads: make(files, 1)


@dataclass(frozen=True)
class Candidate:
    """What can be measured: `make(files, threads)` loads it. `nets`: None for all, "masked", "around" or "unrolled";
    "tails" for none but those of tails.py, which takes what it measures itself.
    """

    engine: str
    form: str
    make: Callable
    nets: str | None = None
    least_threads: int = 1

    def takes(self, net):
        masked = net not in AROUND and NETS[net].masked
        kinds = {None: True, "tails": False, "around": net in AROUND, "unrolled": net in UNROLLED, "masked": masked}
        return kinds[self.nets]


CANDIDATES = (
    Candidate(OURS, "", FastBiLSTM),
    Candidate(ENGINES["blas"], BASELINE, partial(FastBiLSTM, backend="blas")),
    Candidate("ONNX Runtime", AS_CONVERTED, partial(OnnxRuntime, form=AS_CONVERTED)),
    Candidate("OpenVINO", AS_CONVERTED, partial(OpenVINO, form=AS_CONVERTED)),
    Candidate("LiteRT", AS_CONVERTED, partial(LiteRT, form=AS_CONVERTED)),
    Candidate(ENGINES["tensorflow"], AS_CONVERTED, TensorFlowGraph),
    Candidate(ENGINES["keras"], AS_CONVERTED, TensorFlowKeras),
    Candidate("ONNX Runtime", HAND_MADE, partial(OnnxRuntime, form=HAND_MADE)),
    Candidate("OpenVINO", HAND_MADE, partial(OpenVINO, form=HAND_MADE)),
    Candidate("LiteRT", HAND_MADE, partial(LiteRT, form=HAND_MADE), "unrolled"),
    Candidate("PyTorch", HAND_MADE, PyTorch),
    Candidate("ONNX Runtime", ROW_BY_ROW, partial(OnnxRuntimeRows, form=HAND_MADE), nets="masked"),
    Candidate(f"{OURS}{ONE_THREAD}", BASELINE, one_thread(FastBiLSTM), "tails", 2),
    # Small nets can be slower on two threads than on one.
    Candidate(
        f"ONNX Runtime{ONE_THREAD}", AS_CONVERTED, one_thread(partial(OnnxRuntime, form=AS_CONVERTED)), "around", 2
    ),
    Candidate(
        f"ONNX Runtime{ONE_THREAD}", HAND_MADE, one_thread(partial(OnnxRuntime, form=HAND_MADE)), least_threads=2
    ),
    Candidate(f"LiteRT{ONE_THREAD}", AS_CONVERTED, one_thread(partial(LiteRT, form=AS_CONVERTED)), least_threads=2),
    Candidate(f"LiteRT{ONE_THREAD}", HAND_MADE, one_thread(partial(LiteRT, form=HAND_MADE)), "unrolled", 2),
    Candidate(f"PyTorch{ONE_THREAD}", HAND_MADE, one_thread(PyTorch), least_threads=2),
)


def chosen(names=ENGINES):
    """The candidates of these names of the command line."""
    engines = {ENGINES[name] for name in names}
    return [candidate for candidate in CANDIDATES if candidate.engine.removesuffix(ONE_THREAD) in engines]


def reason(error, folder):
    """A short sentence for an error, without the paths of this machine."""
    if isinstance(error, ImportError):
        return f"is not installed ({getattr(error, 'name', None) or error})"
    text = str(error).replace(folder, "").strip()
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Exception from")]
    text = re.sub(r"(?:[A-Za-z]:)?(?:[\\/][\w.+-]+){2,}", "...", " ".join(lines[:4]) or type(error).__name__)
    return text if len(text) <= 200 else f"{text[:197]}..."
