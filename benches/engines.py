"""One class for each engine, all used alike: `arrange(x)` makes its input (not timed for rivals), `run(given)` answers
(timed), `rows(answer, given)` puts the answer as Keras gives it (not timed).

Each constructor imports its engine, so that a missing one is an ImportError of that engine alone. `CANDIDATES` lists
what can be measured. Knows nothing of times.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import handmade
import numpy as np
from cells import AS_CONVERTED, HAND_MADE
from nets import NETS, load_weights

OURS, BASELINE, ROW_BY_ROW = "fastbilstm", "not counted", "row by row, not counted"


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
        return x

    def run(self, x):
        return self.model.predict(x, batch_size=len(x))

    def rows(self, answer, given):
        return answer


class _HandMade:
    """Input as `handmade.arrange` gives it: (x, lengths or None, order)."""

    def __init__(self, files):
        self.net = NETS[files.net]

    def rows(self, answer, given):
        return handmade.restore(np.array(answer), given[-1], handmade.returns_sequences(self.net))


class OnnxRuntime(_HandMade):
    def __init__(self, files, threads, form):
        import onnxruntime

        super().__init__(files)
        self.onnxruntime, self.form, self.files, self.sessions = onnxruntime, form, files, {}
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
        if self.form == AS_CONVERTED:
            session = self.session("converted")
            return session, {session.get_inputs()[0].name: x}, None
        x, lengths, order = handmade.arrange(self.net, x)
        if lengths is None:
            return self.session("handmade"), {"x": x}, order
        return self.session("lengths"), {"x": x, "lengths": lengths}, order

    def run(self, given):
        session, feeds, _ = given
        return session.run(None, feeds)[0]

    def rows(self, answer, given):
        return answer if self.form == AS_CONVERTED else super().rows(answer, given)


class OpenVINO(_HandMade):
    """Compiled for each shape it meets, in float32 (its default on newer CPUs is bfloat16)."""

    def __init__(self, files, threads, form):
        import openvino

        super().__init__(files)
        self.openvino, self.form, self.files, self.requests = openvino, form, files, {}
        self.core, self.detail = openvino.Core(), None
        self.options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        self.options["INFERENCE_PRECISION_HINT"] = "f32"
        if form == AS_CONVERTED:
            try:
                self.core.read_model(files.path("converted"))
            except RuntimeError:
                self.core.read_model(files.path("saved"))
                self.detail = "read from the SavedModel, fails on the ONNX file"

    def request(self, kind, arrays):
        key = kind, *(array.shape for array in arrays)
        if key not in self.requests:
            model = self.core.read_model(self.files.path(kind))
            model.reshape({port: list(array.shape) for port, array in zip(model.inputs, arrays)})
            self.requests[key] = self.core.compile_model(model, "CPU", self.options).create_infer_request()
        return self.requests[key]

    def arrange(self, x):
        arrays, order, kind = [x], None, "saved" if self.detail else "converted"
        if self.form == HAND_MADE:
            x, lengths, order = handmade.arrange(self.net, x)
            kind, arrays = ("handmade", [x]) if lengths is None else ("lengths", [x, lengths])
        return self.request(kind, arrays), [self.openvino.Tensor(array) for array in arrays], order

    def run(self, given):
        request, tensors, _ = given
        for port, tensor in enumerate(tensors):
            request.set_input_tensor(port, tensor)
        request.infer()
        return request.get_output_tensor(0).data.copy()

    def rows(self, answer, given):
        return answer if self.form == AS_CONVERTED else super().rows(answer, given)


class OnnxRuntimeRows(OnnxRuntime):
    """One row after the other, each cut at its own length: no mask is needed."""

    def arrange(self, x):
        return [super(OnnxRuntimeRows, self).arrange(x[at : at + 1]) for at in range(len(x))]

    def run(self, given):
        return [super(OnnxRuntimeRows, self).run(row) for row in given]

    def rows(self, answer, given):
        return np.concatenate([super(OnnxRuntimeRows, self).rows(*pair) for pair in zip(answer, given)])


class PyTorch(_HandMade):
    def __init__(self, files, threads):
        import torch

        torch.set_num_threads(threads)
        super().__init__(files)
        self.torch = torch
        self.forward = handmade.torch_net(self.net, load_weights(files.path("npz")))

    def arrange(self, x):
        x, lengths, order = handmade.arrange(self.net, x)
        x = self.torch.from_numpy(x)
        if lengths is not None:
            x = self.torch.nn.utils.rnn.pack_padded_sequence(x, self.torch.from_numpy(lengths).long())
        return x, order

    def run(self, given):
        return self.forward(given[0])


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
        self.input = next(iter(self.function.structured_input_signature[1]))

    def arrange(self, x):
        return {self.input: self.tensorflow.constant(x)}

    def run(self, given):
        return next(iter(self.function(**given).values())).numpy()

    def rows(self, answer, given):
        return answer


class TensorFlowKeras:
    """`predict_on_batch` of the Keras model, which is `predict` without its loop over batches."""

    def __init__(self, files, threads):
        _tensorflow(threads)
        import keras

        self.model = keras.models.load_model(files.path("keras"), compile=False)

    def arrange(self, x):
        return x

    def run(self, x):
        return self.model.predict_on_batch(x)

    def rows(self, answer, given):
        return answer


def one_thread(make):
    return lambda files, threads: make(files, 1)


@dataclass(frozen=True)
class Candidate:
    """What can be measured: `make(files, threads)` loads it."""

    engine: str
    form: str
    make: Callable
    masked_only: bool = False
    least_threads: int = 1


CANDIDATES = (
    Candidate(OURS, "", FastBiLSTM),
    Candidate(f"{OURS}, backend blas", BASELINE, partial(FastBiLSTM, backend="blas")),
    Candidate("ONNX Runtime", AS_CONVERTED, partial(OnnxRuntime, form=AS_CONVERTED)),
    Candidate("OpenVINO", AS_CONVERTED, partial(OpenVINO, form=AS_CONVERTED)),
    Candidate("TensorFlow, SavedModel", AS_CONVERTED, TensorFlowGraph),
    Candidate("TensorFlow, Keras predict_on_batch", AS_CONVERTED, TensorFlowKeras),
    Candidate("ONNX Runtime", HAND_MADE, partial(OnnxRuntime, form=HAND_MADE)),
    Candidate("OpenVINO", HAND_MADE, partial(OpenVINO, form=HAND_MADE)),
    Candidate("PyTorch", HAND_MADE, PyTorch),
    Candidate("ONNX Runtime", ROW_BY_ROW, partial(OnnxRuntimeRows, form=HAND_MADE), masked_only=True),
    # Small nets can be slower on two threads than on one.
    Candidate("ONNX Runtime, 1 thread", HAND_MADE, one_thread(partial(OnnxRuntime, form=HAND_MADE)), least_threads=2),
    Candidate("PyTorch, 1 thread", HAND_MADE, one_thread(PyTorch), least_threads=2),
)


def reason(error, folder):
    """A short sentence for an error, without the paths of this machine."""
    if isinstance(error, ImportError):
        return f"is not installed ({getattr(error, 'name', None) or error})"
    text = str(error).replace(folder, "").strip()
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Exception from")]
    text = re.sub(r"(?:[A-Za-z]:)?(?:[\\/][\w.+-]+){2,}", "...", " ".join(lines[:4]) or type(error).__name__)
    return text if len(text) <= 200 else f"{text[:197]}..."
