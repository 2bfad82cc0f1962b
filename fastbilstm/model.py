"""Model: what a user calls. The single place where user input is checked, converted and batched.

Imports NumPy; files are read and written by `loading` and `weights_file`.
"""

import json
import numbers
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from . import plan as planning
from . import threads, weights_file
from .errors import FileFormatError, InputError
from .graph import graph_from_json, graph_to_json
from .layers.core import check_ids
from .summary import summary_text

# Rows computed at once where the caller does not say, as in Keras.
_DEFAULT_BATCH = 32


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model: its name, its shape (None: free; the batch axis first) and its dtype."""

    name: str
    shape: tuple
    dtype: str


@dataclass(frozen=True)
class LayerInfo:
    """A layer of a model as Keras lists it: `name`, `class_name`, `config` (what matters at inference), `layers`."""

    name: str
    class_name: str
    config: dict
    layers: tuple
    _weights: tuple

    def get_weights(self):
        """The layer's arrays, in Keras' layout and order."""
        return list(self._weights)


def _listed(layers):
    """The layers that Keras lists; a ForgetMask is what one of them does to another."""
    return [layer for layer in layers if layer.class_name != "ForgetMask"]


def _layer_info(layer, tensors):
    inner = layer.layers if layer.graph is None else layer.graph.layers
    parts = tuple(_layer_info(part, tensors) for part in _listed(inner))
    own = [tensors[name] for name in layer.weights.values()]
    weights = (*own, *(array for part in parts for array in part._weights))
    return LayerInfo(layer.name, layer.class_name, dict(layer.config), parts, weights)


class Model:
    """A trained Keras model, ready to predict. Made by `fastbilstm.load`.

    Attributes
    ----------
    graph : Graph
        Its description.
    source : str
        The file it came from.
    vector : Vector or None
        The self-check vector that came with a converted file.
    text : TextEncoder or None
        What turns texts into the input, for `predict_text`. Can be set.
    labels : list of str or None
        The names of the classes that the output gives probabilities of. Can be set.
    """

    def __init__(
        self,
        graph,
        tensors,
        *,
        dtype=None,
        backend="auto",
        memory_budget=None,
        n_threads=None,
        vector=None,
        source="model",
        text=None,
        labels=None,
    ):
        self.graph, self.vector, self.source = graph, vector, source
        self._tensors = tensors
        self._plan = planning.compile(graph, tensors, dtype, backend, memory_budget)
        self._n_threads = _check_threads(n_threads)
        self._states, self._stream = {}, None
        self._text, self._labels = text, labels

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def name(self):
        return self.graph.name

    @property
    def dtype(self):
        """Precision of computation: 'float32' or 'float64'."""
        return self._plan.dtype.name

    @property
    def backend(self):
        """What runs the layers: 'vector' (our kernels), 'blas' (SciPy's) or 'numpy' (the specification)."""
        return self._plan.backend

    @property
    def n_threads(self):
        """Threads of a prediction at most: what was asked for, else the cores this process may use."""
        return self._n_threads or threads.available()

    @property
    def keras(self):
        """The framework and version that wrote the file, e.g. 'keras 3.15.1'; it decides the semantics."""
        return str(self.graph.keras)

    @property
    def inputs(self):
        """List of TensorInfo."""
        return [TensorInfo(i.name, i.shape, i.dtype) for i in self.graph.inputs]

    @property
    def outputs(self):
        """List of TensorInfo."""
        pairs = zip(self.graph.output_names, self._plan.output_specs)
        return [TensorInfo(name, spec.shape, self.dtype) for name, spec in pairs]

    @property
    def layers(self):
        """List of LayerInfo, in Keras' order; models inside the model hold theirs in `.layers`."""
        return [_layer_info(layer, self._tensors) for layer in _listed(self.graph.layers)]

    def get_weights(self):
        """All arrays of the model, in the order of the layers, as `keras.Model.get_weights` gives them."""
        return [array for layer in self.layers for array in layer.get_weights()]

    def summary(self, print_fn=print):
        """Print a table of the layers (shapes, parameters, masks, what runs them, what was ignored) and of the plan."""
        print_fn(summary_text(self))

    def __repr__(self):
        return f"<fastbilstm.Model {self.name!r} of {self.keras}, {self.dtype}, from {self.source}>"

    # ---- what it does -----------------------------------------------------------------------------------------------

    def __call__(self, x):
        """Compute the outputs for one batch; see `predict`."""
        arrays, rows = self._check_inputs(x)
        self._check_batch(rows, rows)
        return self._pack(self._plan.predict(arrays, max(rows, 1), self._states, self.n_threads))

    def predict(self, x, batch_size=None, verbose=0, n_threads=None):
        """Compute the outputs for `x`, batch after batch.

        Parameters
        ----------
        x : array_like, list or dict
            One array of shape (rows, ...) for a model with one input; for several inputs a list in the order of
            `inputs`, or a dict by input name. Token ids may be of any integer dtype; floats are truncated, as in Keras.
        batch_size : int, optional
            Rows computed at once, at most. Default: the model's fixed batch size if it is stateful, else 32. The
            vector backend gives each row the same bits whatever the size.
        verbose : {0, 1, 2, "auto"}
            1 or "auto": a progress line on standard error if that is a terminal; 0 and 2: nothing.
        n_threads : int, optional
            Threads at most; default those given to `load`. They share rows, or for a single row the directions of
            Bidirectional layers; too little work runs on one.

        Returns
        -------
        ndarray, list or dict of ndarray
            As the Keras model: one array, or a list or a dict of them. No rows in, no rows out.

        Raises
        ------
        InputError
            If an input has the wrong dtype, rank or size, or holds a token id outside its Embedding.
        """
        arrays, rows = self._check_inputs(x)
        if batch_size is None:
            fixed = self.graph.inputs[0].shape[0] if self._plan.stateful else None
            batch_size = fixed or _DEFAULT_BATCH
        if isinstance(batch_size, bool) or not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r}; expected a whole number of at least 1")
        self._check_batch(rows, int(batch_size))
        n_threads = _check_threads(n_threads) or self.n_threads
        progress = _Progress(rows) if verbose in (1, "auto") else None
        update = progress.update if progress else None
        return self._pack(self._plan.predict(arrays, int(batch_size), self._states, n_threads, update))

    def predict_iter(
        self, source, batch_size=None, n_threads=None, *, pad=None, maxlen=None, truncating="pre", **options
    ):
        """Compute the outputs for chunk after chunk, in bounded memory: for what does not fit in memory at once.

        Chunks are computed in several threads and taken a few ahead of the results, so that reading and computing
        overlap.

        Parameters
        ----------
        source : iterable, str or PathLike
            Chunks, each as `predict` takes it; or a file of rows (.npy, .npz, .csv, .jsonl, .txt, .parquet).
        batch_size, n_threads
            See `predict`.
        pad, maxlen, truncating
            See `predict`. `pad` needs `maxlen` where the model has no length of its own: a padded length that depended
            on the chunk would change the answers.
        **options
            For a file: `columns`, `text`, `output`, `on_error` of `BatchPredictor`.

        Returns
        -------
        iterator
            What `predict` gives for each chunk, in their order. For a file, batches of rows in their order: a dict with
            the file's columns (Parquet: a pyarrow RecordBatch; .npy and .npz: without them) and those of the answers.

        Raises
        ------
        InputError
            In the turn of a chunk that does not fit the model; names the chunk, counted from 0, or the row of the file.
        """
        from .chunks import predict_iter

        padding = {"pad": pad, "maxlen": maxlen, "truncating": truncating}
        return predict_iter(self, source, batch_size, n_threads, **padding, **options)

    def reset_states(self):
        """Forget what stateful layers remember, so that the next batch starts from zeros."""
        self._states.clear()

    def part(self, name):
        """A model inside this one, on its own: the encoder of a seq2seq model, say. It shares the arrays.

        Raises
        ------
        InputError
            If the model holds no model of that name; names those it holds.
        """
        models = {layer.name: layer for layer in self.graph.layers if layer.graph is not None}
        if name not in models:
            held = ", ".join(map(repr, models)) or "none"
            raise InputError(f"model {self.name!r} holds no model {name!r}; those inside it: {held}")
        options = {"dtype": self.dtype, "backend": self.backend, "memory_budget": self._plan.memory_budget}
        source = f"{self.source}, {name}"
        part = Model(models[name].graph, self._tensors, n_threads=self._n_threads, source=source, **options)
        if self._text is not None or self._labels is not None:
            from . import bundle

            part._text, part._labels = bundle.fitting(part, self.text, self.labels)
        return part

    def stream(self, batch=1):
        """Begin `batch` sequences that arrive in pieces; see `Stream.push`.

        Needs no stateful layers: each stream keeps its own states, from zeros, and leaves the model's alone.

        Raises
        ------
        InputError
            If the model looks at later timesteps; names the layer.
        """
        from .streaming import Stream

        return Stream(self, batch)

    def _streaming(self):
        """The plan that runs pieces of sequences, made once, and the kinds of its outputs."""
        if self._stream is None:
            from . import streaming

            runner, kinds = streaming.streamable(self._plan.network, self._plan.runner)
            self._stream = replace(self._plan, runner=runner, scratches=[]), kinds
        return self._stream

    def save(self, path, overwrite=False):
        """Write the model as one converted file (suffix .fbl), under a temporary name first.

        Raises
        ------
        FileFormatError
            If `path` exists and `overwrite` is false.
        """
        from . import vector as vectors

        vector = self.vector or vectors.make(self.graph, self._tensors)
        weights_file.write(path, self.graph, self._tensors, vector, overwrite, self._stored_text(), self._labels)

    def self_check(self):
        """Run the recorded self-check vector (or, for a Keras file, a fresh one) and compare.

        Returns
        -------
        vector.Check
            `ok`, what the expected numbers were `computed_by`, and the comparison of each output.
        """
        from . import vector as vectors

        vector = self.vector or vectors.make(self.graph, self._tensors)
        fresh = Model(
            self.graph, self._tensors, dtype=self.dtype, backend=self.backend, memory_budget=self._plan.memory_budget
        )
        return vectors.check(fresh, vector)

    def __reduce__(self):
        tensors = {name: np.asarray(array) for name, array in self._tensors.items()}
        options = {
            "dtype": self.dtype,
            "backend": self.backend,
            "memory_budget": self._plan.memory_budget,
            "n_threads": self._n_threads,
            "vector": self.vector,
            "source": self.source,
            "text": self._stored_text(),
            "labels": self._labels,
        }
        return _restore, (graph_to_json(self.graph), tensors, options)

    def check_vector(self, vector):
        """Raise FileFormatError if a self-check vector does not fit the model."""
        try:
            self._check_inputs(vector.inputs)
        except InputError as error:
            raise FileFormatError(f"its self-check vector does not fit the model: {error}") from error
        if len(vector.outputs) != len(self.graph.outputs):
            raise FileFormatError(
                f"its self-check vector has {len(vector.outputs)} outputs, the model {len(self.graph.outputs)}"
            )

    # ---- input ------------------------------------------------------------------------------------------------------

    def _pack(self, outputs):
        structure = self.graph.output_structure
        if structure.startswith("dict:"):
            return dict(zip(structure[len("dict:") :].split("\0"), outputs))
        if structure.startswith("nested:"):
            return _nested(json.loads(structure[len("nested:") :]), outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _check_batch(self, rows, batch_size):
        fixed = self.graph.inputs[0].shape[0] if self._plan.stateful else None
        if fixed is not None and rows and (batch_size != fixed or rows % fixed):
            raise InputError(
                f"layer {self._plan.stateful[0].name!r} is stateful with a batch size of {fixed}; got {rows} rows in "
                f"batches of {batch_size}"
            )

    def _check_inputs(self, x):
        """Turn what the user gave into checked arrays, one for each input, and the number of rows."""
        given = self._by_input(x)
        arrays = [self._check_array(values, number) for number, values in enumerate(given)]
        counts = {len(array) for array in arrays}
        if len(counts) > 1:
            sizes = ", ".join(f"{i.name!r}: {len(a)}" for i, a in zip(self.graph.inputs, arrays))
            raise InputError(f"the inputs differ in their number of rows ({sizes})")
        return arrays, counts.pop()

    def _by_input(self, x):
        inputs = self.graph.inputs
        names = [given.name for given in inputs]
        if isinstance(x, dict):
            keys = names
            if self.graph.input_structure.startswith("dict:"):
                keys = self.graph.input_structure[len("dict:") :].split("\0")
            wrong = set(x) ^ set(keys) if not set(x) >= set(names) else set()
            if wrong:
                raise InputError(f"the inputs are {', '.join(map(repr, keys))}; got {', '.join(map(repr, x))}")
            return [x[key] for key in (names if set(x) >= set(names) else keys)]
        if len(inputs) == 1:
            if isinstance(x, (list, tuple)) and len(x) == 1 and np.ndim(x[0]) >= len(inputs[0].shape):
                return [x[0]]
            return [x]
        if not isinstance(x, (list, tuple)) or len(x) != len(inputs):
            got = f"{len(x)} of them" if isinstance(x, (list, tuple)) else type(x).__name__
            raise InputError(f"the model has {len(inputs)} inputs ({', '.join(map(repr, names))}); got {got}")
        return list(x)

    def _check_array(self, values, number):
        given = self.graph.inputs[number]
        what = f"input {given.name!r}"
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise InputError(f"{what}: rows of different lengths are no array; pad them first ({error})") from error
        if given.dtype == "string":
            array = _as_strings(array, what)
        elif array.dtype.kind not in "biuf":
            raise InputError(f"{what}: has dtype {array.dtype}; expected numbers")
        rank = len(given.shape)
        # Keras adds or removes a last axis of size 1.
        if array.ndim == rank + 1 and array.shape[-1] == 1:
            array = array[..., 0]
        elif array.ndim == rank - 1 and given.shape[-1] == 1:
            array = array[..., np.newaxis]
        sizes = list(zip(array.shape[1:], given.shape[1:]))
        if array.ndim != rank or any(expected is not None and size != expected for size, expected in sizes):
            expected = ("rows", *("any" if size is None else size for size in given.shape[1:]))
            raise InputError(f"{what}: has shape {array.shape}; expected ({', '.join(map(str, expected))})")
        if 0 in array.shape[1:]:
            raise InputError(f"{what}: has shape {array.shape}; an axis of size 0 (no timesteps) has no answer")
        limit = self._plan.id_limits[number]
        if limit is not None and given.dtype == "string":
            raise InputError(f"{what}: holds strings, and an Embedding reads it; expected numbers")
        if limit is not None:
            check_ids(array, limit, f"{what}: the token id")
        return array

    # ---- texts and labels -------------------------------------------------------------------------------------------

    @property
    def text(self):
        if isinstance(self._text, (bytes, np.ndarray)):
            from . import bundle

            self._text = bundle.opened_text(self, self._text)
        return self._text

    @text.setter
    def text(self, encoder):
        from . import bundle

        self._text = None if encoder is None else bundle.checked_text(self, encoder)

    @property
    def labels(self):
        return None if self._labels is None else list(self._labels)

    @labels.setter
    def labels(self, labels):
        from . import bundle

        self._labels = None if labels is None else bundle.checked_labels(self, labels)

    def _stored_text(self):
        """The text encoder as files hold it, JSON in bytes, or None; parsed only when it is asked for."""
        if self._text is None or isinstance(self._text, (bytes, np.ndarray)):
            return self._text if self._text is None else bytes(self._text)
        return self._text.to_json().encode()

    def predict_text(self, texts, batch_size=None, n_threads=None):
        """Compute the outputs for texts, which the model's `text` turns into its input.

        Parameters
        ----------
        texts : list of str
            Encoded some at a time, so that memory does not grow with them beside the answer.
        batch_size, n_threads
            See `predict`.

        Returns
        -------
        ndarray, list or dict of ndarray
            What `predict` gives. `preprocessing.label_answers(y, model.labels)` makes labels of it.

        Raises
        ------
        InputError
            If `texts` is no list of str (names the row), the model holds no tokenizer, or its tokenizer has no maxlen
            and the answer depends on padding. A model whose input is text needs no tokenizer.
        """
        from . import bundle

        return bundle.predict_text(self, texts, batch_size, n_threads)


def _nested(numbers, outputs):
    """The outputs in the lists of lists of their numbers."""
    return [_nested(item, outputs) if isinstance(item, list) else outputs[item] for item in numbers]


def _as_strings(array, what):
    """Text as an array of `bytes` in UTF-8, from str or bytes."""
    if array.dtype.kind not in "USO":
        raise InputError(f"{what}: has dtype {array.dtype}; expected strings")
    found = array.ravel().tolist()
    for number, item in enumerate(found):
        if not isinstance(item, (str, bytes)):
            raise InputError(f"{what}: holds {item!r}; expected strings")
        if isinstance(item, str):
            try:
                found[number] = item.encode("utf-8")
            except UnicodeEncodeError as error:
                raise InputError(f"{what}: the text {item[:40]!r} has no UTF-8 form ({error.reason})") from error
    strings = np.empty(len(found), object)
    strings[:] = found
    return strings.reshape(array.shape)


class _Progress:
    """A progress line for long predictions, on a terminal only."""

    def __init__(self, rows):
        self.rows, self.start, self.live = rows, time.perf_counter(), sys.stderr.isatty()

    def update(self, done):
        if not self.live:
            return
        seconds = time.perf_counter() - self.start
        left = seconds / done * (self.rows - done) if done else 0.0
        end = "\n" if done == self.rows else ""
        print(f"\r{done}/{self.rows} rows, {seconds:.1f} s, {left:.1f} s left ", end=end, file=sys.stderr, flush=True)


def _check_threads(n_threads):
    if n_threads is None:
        return None
    if isinstance(n_threads, bool) or not isinstance(n_threads, numbers.Integral) or n_threads < 1:
        raise InputError(f"n_threads is {n_threads!r}; expected a whole number of at least 1")
    return int(n_threads)


def _restore(graph, tensors, options):
    try:
        return Model(graph_from_json(graph), tensors, **options)
    except (ImportError, RuntimeError):
        # Pickled where there was SciPy or a compiler: any backend gives the same numbers up to rounding.
        return Model(graph_from_json(graph), tensors, **{**options, "backend": "auto"})
