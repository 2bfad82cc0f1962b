"""Model: what a user calls.

Imports NumPy. What a user gives is checked by `inputs`, what computes is `engine`'s plan, files are `converted`'s.
Imports inside methods are of what most processes never need, and save their time at start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .analysis.listing import LayerInfo, TensorInfo, find_layer, listed_layers
from .checks import check_whole
from .converted import fbl_file
from .engine import compiling, threads
from .errors import FileFormatError, InputError
from .graph import graph_from_json, graph_to_json
from .inputs import model_input, model_output
from .inputs.model_input import ModelInput, Predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from .converted.mapped_file import Mapped
    from .converted.narrow_file import Measured
    from .converted.self_check import Check
    from .engine.plan import Plan
    from .engine.streaming import Stream
    from .graph import Graph
    from .preprocessing import TextEncoder
    from .scoring.column_scorer import FileOptions

__all__ = ["LayerInfo", "Model", "ModelInput", "Predictions", "TensorInfo"]

# Rows computed at once where the caller does not say, as in Keras.
_DEFAULT_BATCH = 32
_REFUSED = (
    "predict has no %s=: x is arrays, not a generator, and nothing is called between batches; for data in pieces take "
    "predict_iter(batches), which gives the answers of each"
)


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
    measured : tuple of Measured
        How far a model that was converted with narrow weights is from its float32 twin: on made-up rows, and on rows
        that `convert` was given.
    text : TextEncoder or None
        What turns texts into the input, for `predict_text`. Can be set.
    labels : list of str or None
        The names of the classes that the output gives probabilities of. Can be set.
    """

    graph: Graph
    source: str
    vector: fbl_file.Vector | None
    measured: tuple[Measured, ...]

    def __init__(
        self,
        graph: Graph,
        tensors: Mapping[str, NDArray[Any]],
        *,
        dtype: Literal["float32", "float64"] | None = None,
        backend: Literal["auto", "vector", "blas", "numpy"] = "auto",
        memory_budget: int | None = None,
        n_threads: int | None = None,
        vector: fbl_file.Vector | None = None,
        source: str = "model",
        text: TextEncoder | bytes | None = None,
        labels: list[str] | None = None,
        mapped: Mapped | None = None,
        weights: Literal["float32", "bfloat16", "float16", "int8"] = "float32",
        measured: tuple[Measured, ...] = (),
    ) -> None:
        self.graph, self.vector, self.source, self.measured = graph, vector, source, measured
        self._tensors, self._mapped = tensors, mapped
        self._plan = compiling.compile(graph, tensors, dtype, backend, memory_budget, weights)
        # What answers from a tape, if anything does.
        self._replay = None if self._plan.replay is None else self._plan.replay.run
        self._n_threads = check_whole("n_threads", n_threads)
        self._states: dict[Any, Any] = {}
        self._stream: tuple[Plan, Any] | None = None
        self._states_lock = threads.fork_safe_lock()
        self._text, self._labels = text, labels

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the model in Keras."""
        return self.graph.name

    @property
    def dtype(self) -> Literal["float32", "float64"]:
        """Precision of computation: 'float32' or 'float64'."""
        return "float64" if self._plan.dtype == np.float64 else "float32"

    @property
    def backend(self) -> Literal["vector", "blas", "numpy"]:
        """What runs the layers: 'vector' (our kernels), 'blas' (SciPy's) or 'numpy' (the specification)."""
        return self._plan.backend

    @property
    def weights(self) -> Literal["float32", "bfloat16", "float16", "int8"]:
        """The form of the kernels and embeddings: 'float32', or what `load` or `convert` narrowed them to."""
        return self._plan.weights

    @property
    def n_threads(self) -> int:
        """Threads of a prediction at most: what was asked for, else the cores this process may use."""
        return self._n_threads or threads.available()

    @property
    def keras(self) -> str:
        """The framework and version that wrote the file, e.g. 'keras 3.15.1'; it decides the semantics."""
        return str(self.graph.keras)

    @property
    def inputs(self) -> list[TensorInfo]:
        """List of TensorInfo."""
        return [TensorInfo(i.name, i.shape or (), i.dtype) for i in self.graph.inputs]

    @property
    def outputs(self) -> list[TensorInfo]:
        """List of TensorInfo; what a registered layer gives counts as floats."""
        pairs = zip(self.graph.output_names, self._plan.output_specs)
        return [TensorInfo(name, spec.shape, spec.dtype or self.dtype) for name, spec in pairs]

    @property
    def layers(self) -> list[LayerInfo]:
        """List of LayerInfo, in Keras' order; models inside the model hold theirs in `.layers`."""
        self._check_file()
        return listed_layers(self.graph.layers, self._tensors)

    @property
    def input_shape(self) -> Any:
        """The shape of the input, None for free axes, the batch first; a list for several."""
        shapes = [info.shape for info in self.inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Any:
        """The shape of the output, as `input_shape`."""
        shapes = [info.shape for info in self.outputs]
        return shapes[0] if len(shapes) == 1 else shapes

    def get_layer(self, name: str | None = None, index: int | None = None) -> LayerInfo:
        """A layer by its name, or by its place in `layers`, where models list no inputs.

        Raises
        ------
        InputError
            If there is no such layer; names those there are.
        """
        return find_layer(self.layers, name, index)

    def count_params(self) -> int:
        """How many numbers the arrays of the model hold together."""
        return sum(array.size for array in self.get_weights())

    def get_weights(self) -> list[NDArray[Any]]:
        """All arrays of the model, in the order of the layers, as `keras.Model.get_weights` gives them."""
        once = {id(array): array for layer in self.layers for array in layer.get_weights()}
        return list(once.values())

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print a table of the layers (shapes, parameters, masks, what runs them, what was ignored) and of the plan."""
        from .engine.summary import summary_text  # most processes print none: saves its import at start

        print_fn(summary_text(self))

    def _repr_html_(self) -> str:
        """What a notebook shows of a model: `summary` as HTML."""
        from .engine.summary import summary_html  # as for `summary`

        return summary_html(self)

    def __repr__(self) -> str:
        form = "" if self.weights == "float32" else f" with {self.weights} weights"
        return f"<fastbilstm.Model {self.name!r} of {self.keras}, {self.dtype}{form}, from {self.source}>"

    # ---- what it does -----------------------------------------------------------------------------------------------

    def __call__(self, x: ModelInput, training: bool | None = False) -> Predictions:
        """Compute the outputs for one batch; see `predict`. `training` may only be False or None, as at inference."""
        if training:
            raise InputError(
                f"training is {training!r}: fastbilstm computes inference alone (no dropout, no statistics of the "
                "batch); call the Keras model"
            )
        self._check_file()
        if self._replay is not None and (outputs := self._replay(x, self._n_threads)) is not None:
            return self._pack(outputs)
        arrays, rows, cuts = model_input.check(self._plan, x)
        model_input.check_batch(self._plan, rows, rows)
        return self._pack(self._run(arrays, max(rows, 1), self.n_threads, None, cuts))

    def predict(
        self,
        x: ModelInput,
        batch_size: int | None = None,
        verbose: int | Literal["auto"] = 0,
        n_threads: int | None = None,
        *,
        pad: Literal["pre", "post"] | None = None,
        maxlen: int | None = None,
        truncating: Literal["pre", "post"] = "pre",
        value: float = 0.0,
        out: Predictions | None = None,
        steps: None = None,
        callbacks: None = None,
    ) -> Predictions:
        """Compute the outputs for `x`, batch after batch.

        Several threads may call it at the same time. Calls for a stateful model, and `reset_states`, wait for each
        other.

        Parameters
        ----------
        x : array_like, list or dict
            One array of shape (rows, ...) for a model with one input; for several inputs a list in the order of
            `inputs`, or a dict by input name. Token ids may be of any integer dtype; floats are truncated, as in Keras.
            In place of an array a list of rows of different lengths, each an array_like of shape (timesteps, ...):
            token ids (timesteps,) or frames (timesteps, features). A list of one element with all axes of an input is
            the list of inputs.
        batch_size : int, optional
            Rows computed at once, at most. Default: the model's fixed batch size if it is stateful, else 32. The
            vector backend gives each row the same bits whatever the size.
        verbose : {0, 1, 2, "auto"}
            1 or "auto": a progress line on standard error if that is a terminal; 0 and 2: nothing.
        n_threads : int, optional
            Threads at most, and no more than the machine has cores; default those given to `load`. They share rows, or
            for few rows the directions of Bidirectional layers and the units of wide ones; too little work runs on one.
        pad : {None, "pre", "post"}
            Where rows get padding, as `keras.utils.pad_sequences(x, maxlen, padding=pad)` pads: up to `maxlen`, else to
            the timesteps that the model fixes, else to the longest row of `x`; the dtype stays. None: a row is answered
            as if it were padded and masked, whatever the amount, and no padding is computed; for models whose answer
            does not depend on masked padding (`summary()` tells), and for rows of one length.
        maxlen : int, optional
            Timesteps that are kept of each row, at most.
        truncating : {"pre", "post"}
            Which end of a longer row is dropped.
        value : float
            What `pad` pads with.
        out : ndarray, list or dict of ndarray, optional
            Arrays of the shapes and dtypes of the outputs, as they are returned; the outputs are written into them.
        steps, callbacks : None
            Arguments of Keras that are refused: there are no generators and no callbacks; see `predict_iter`.

        Returns
        -------
        ndarray, list or dict of ndarray
            `out`, or new arrays as the Keras model gives them: one, or a list or a dict of them. No rows in, no rows
            out. Where rows differ in length and `pad` is None, an output with the timesteps of the input is a list of
            arrays, each as long as its row. A type checker takes it for an array (`Predictions` is
            ``NDArray[Any] | Any``): tell it of a list or a dict with ``isinstance``.

        Raises
        ------
        InputError
            If an input has the wrong dtype, rank or size, holds a token id outside its Embedding, or has rows of
            different lengths where padding matters: names the layer. If `out` does not fit the outputs; then it may
            hold anything.
        """
        self._check_file()
        if steps is not None or callbacks is not None:
            raise InputError(_REFUSED % ("steps" if steps is not None else "callbacks"))
        outs = None if out is None else model_output.given(self.graph, out)
        if self._replay is not None and pad is None and maxlen is None and verbose in (0, 2):
            # Where a tape fits, a row has the same bits for every size of batch and any number of threads.
            sizes = (batch_size is None or _is_size(batch_size)) and (n_threads is None or _is_size(n_threads))
            if sizes and truncating == "pre" and value == 0:
                outputs = self._replay(x, n_threads or self._n_threads, outs)
                if outputs is not None:
                    if outs is None:
                        return self._pack(outputs)
                    self._check_file()
                    return out
        arrays, rows, cuts = model_input.check(self._plan, x, model_input.Options(pad, maxlen, truncating, value))
        batch_size = check_whole("batch_size", batch_size) or model_input.fixed_batch(self._plan) or _DEFAULT_BATCH
        model_input.check_batch(self._plan, rows, batch_size)
        n_threads = check_whole("n_threads", n_threads) or self.n_threads
        update = None
        if verbose in (1, "auto"):
            from .scoring.progress import Progress

            update = Progress(rows).update
        outputs = self._run(arrays, batch_size, n_threads, update, cuts)
        if outs is None:
            return self._pack(outputs)
        self._check_file()
        model_output.fill(self.graph, outs, outputs)
        return out

    def predict_on_batch(self, x: ModelInput) -> Predictions:
        """Compute the outputs for one batch, as the method of Keras; the same as calling the model."""
        return self(x)

    def bind(self, x: ModelInput, out: Predictions | None = None) -> Callable[[], Predictions]:
        """A function over fixed arrays, for who counts microseconds.

        Parameters
        ----------
        x : ndarray, list or dict of ndarray
            As for `predict`. Each call reads the numbers that the arrays hold at the time.
        out : ndarray, list or dict of ndarray, optional
            As for `predict`; by default what the first call returns. Each call overwrites it.

        Returns
        -------
        callable
            Without arguments; ``predict(x, out=out)``, and returns `out`. It raises what `predict` raises.
        """
        outs = None if out is None else model_output.given(self.graph, out)

        def call() -> Predictions:
            nonlocal out, outs
            if outs is None:
                out = self.predict(x)
                outs = model_output.given(self.graph, out)
                return out
            self._check_file()
            if self._replay is None or self._replay(x, self._n_threads, outs) is None:
                self.predict(x, out=out)
            self._check_file()
            return out

        return call

    def trace(self, x: ModelInput, names: str | Sequence[str] | None = None) -> Any:
        """What happens inside the network for the rows of `x`: any tensor, by its name.

        A layer's name is that of its output (``layer:0``, ``layer:1`` where there are several; ``layer#2`` for its
        second call; ``model/layer`` in a model inside). Recurrent layers also have ``layer/h`` and, for LSTM,
        ``layer/c``: the states after each timestep, (rows, timesteps, units), also where only the last output is
        returned; and ``layer/gate_i`` (f, c, o; for GRU z, r, h), the gates after their activations, with c (h) the
        candidate. Bidirectional layers have them in ``layer/forward/`` and ``layer/backward/``, the backward ones at
        the timestep that was read; cells in a stack in ``layer/cell_0/``. Attention layers have ``layer/scores``, the
        weights of each query, (rows, queries, keys), or (rows, heads, queries, keys), whether the model returns them
        or not. At masked timesteps states stay as they were and gates are 0.

        Parameters
        ----------
        x : ndarray, list or dict of ndarray
            As for `predict`, rows of one length. They are computed at once: give some rows, not a file of them.
        names : str or list of str, optional
            Tensors that are wanted; default: none, the names there are.

        Returns
        -------
        list of str, dict of str to ndarray, or ndarray
            All names in the order of computation if `names` is None; the arrays by name; for one name its array.
            Stateful layers begin with zeros, and remember nothing of it.

        Raises
        ------
        InputError
            If `x` does not fit, or there is no tensor of a name.
        """
        from .engine import trace  # who looks inside waits for it

        self._check_file()
        arrays, _, cuts = model_input.check(self._plan, x)
        if cuts is not None:
            raise InputError("trace: rows of different lengths; pad them, or trace them one by one")
        return trace.trace(self._plan, arrays, names)

    def predict_iter(
        self,
        source: Iterable[ModelInput] | str | os.PathLike[str],
        batch_size: int | None = None,
        n_threads: int | None = None,
        *,
        pad: Literal["pre", "post"] | None = None,
        maxlen: int | None = None,
        truncating: Literal["pre", "post"] = "pre",
        **options: Unpack[FileOptions],
    ) -> Iterator[Any]:
        """Compute the outputs for chunk after chunk, in bounded memory: for what does not fit in memory at once.

        Chunks are computed in several threads and taken a few ahead of the results, so that reading and computing
        overlap.

        Parameters
        ----------
        source : iterable, str or PathLike
            Chunks, each as `predict` takes it; or a file of rows (.npy, .npz, .csv, .tsv, .jsonl, .txt, .parquet; lines
            may be packed, .csv.gz or .csv.zst), a pattern ("part-*.csv"), a folder of Parquet files, or a list of
            paths; or a table with `__arrow_c_stream__`, of polars, DuckDB, pandas or pyarrow (needs pyarrow).
        batch_size, n_threads
            See `predict`.
        pad, maxlen, truncating
            See `predict`. `pad` needs `maxlen` where the model has no length of its own: a padded length that depended
            on the chunk would change the answers.
        **options
            For files and tables: `columns`, `text`, `output`, `on_error`, `raw`, `empty` of `BatchPredictor`. For
            files: `format`, `delimiter`, `encoding` and `source_column`, as the options of `fastbilstm predict`.

        Returns
        -------
        iterator
            What `predict` gives for each chunk, in their order. For a file, batches of rows in their order: a dict with
            the file's columns (.npy and .npz: without them) and those of the answers; a pyarrow RecordBatch for Parquet
            and tables.

        Raises
        ------
        InputError
            In the turn of a chunk that does not fit the model; names the chunk, counted from 0, or the row of the file.
            At the end, if the file was changed or replaced meanwhile.
        """
        from .scoring.loop import predict_iter

        return predict_iter(
            self, source, batch_size, n_threads, pad=pad, maxlen=maxlen, truncating=truncating, **options
        )

    def reset_states(self) -> None:
        """Forget what stateful layers remember, so that the next batch starts from zeros.

        Waits for a prediction that another thread has begun.
        """
        with self._states_lock:
            self._states.clear()

    def part(self, name: str) -> Model:
        """A model inside this one, on its own: the encoder of a seq2seq model, say. It shares the arrays.

        Raises
        ------
        InputError
            If the model holds no model of that name; names those it holds.
        """
        models = {layer.name: layer.graph for layer in self.graph.layers if layer.graph is not None}
        if name not in models:
            held = ", ".join(map(repr, models)) or "none"
            raise InputError(f"model {self.name!r} holds no model {name!r}; those inside it: {held}")
        options = self._options() | {"source": f"{self.source}, {name}", "mapped": self._mapped}
        part = Model(models[name], self._tensors, **options)
        if self._text is not None or self._labels is not None:
            part._text, part._labels = _texts().fitting(part, self.text, self.labels)
        return part

    def stream(self, batch: int = 1) -> Stream:
        """Begin `batch` sequences that arrive in pieces; see `Stream.push`.

        Needs no stateful layers: each stream keeps its own states, from zeros, and leaves the model's alone.

        Raises
        ------
        InputError
            If the model looks at later timesteps; names the layer.
        """
        from .engine.streaming import Stream

        return Stream(self, batch)

    def _streaming(self) -> tuple[Plan, Any]:
        """The plan that runs pieces of sequences, made once, and the kinds of its outputs."""
        if self._stream is None:
            from .engine.stand_ins import streamable

            runner, kinds = streamable(self._plan.network, self._plan.runner)
            self._stream = self._plan.replace(runner=runner, scratches=[], replay=None), kinds
        return self._stream

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the model as one converted file (suffix .fbl), under a temporary name first.

        Raises
        ------
        FileFormatError
            If `path` exists and `overwrite` is false.
        """
        from .converted import self_check

        self._check_file()
        vector = self.vector or self_check.with_int8_errors(self_check.make(self.graph, self._tensors), self)
        text = _texts().stored_text(self._text)
        narrow = (self.weights, self.measured)
        content = fbl_file.to_bytes(self.graph, self._tensors, vector, text, self._labels, *narrow)
        self._check_file()
        fbl_file.write_file(path, content, overwrite)

    def self_check(self) -> Check:
        """Run the recorded self-check vector (or, for a Keras file, a fresh one) and compare.

        Returns
        -------
        vector.Check
            `ok`, what the expected numbers were `computed_by`, and the comparison of each output.
        """
        from .converted import self_check

        self._check_file()
        vector = self.vector or self_check.make(self.graph, self._tensors)
        result = self_check.check(Model(self.graph, self._tensors, **self._options()), vector)
        self._check_file()
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        take = np.asarray if self._mapped is None else np.array
        tensors = {name: take(array) for name, array in self._tensors.items()}
        self._check_file()
        held = {"vector": self.vector, "text": _texts().stored_text(self._text), "labels": self._labels}
        held |= {"measured": self.measured} if self.measured else {}
        state: tuple[Any, ...] = (graph_to_json(self.graph), tensors, self._options() | held)
        from .layers import lambdas

        functions = lambdas.functions_of(self.graph)
        return _restore, (*state, functions) if functions else state

    def _options(self) -> dict[str, Any]:
        """What another model is made with to run as this one does."""
        options: dict[str, Any] = {"dtype": self.dtype, "backend": self.backend}
        options |= {"memory_budget": self._plan.memory_budget}
        options |= {} if self.weights == "float32" else {"weights": self.weights}
        return options | {"n_threads": self._n_threads, "source": self.source}

    def check_vector(self, vector: fbl_file.Vector) -> None:
        """Raise FileFormatError if a self-check vector does not fit the model."""
        if len(vector.inputs) != len(self.graph.inputs):
            text = f"it has {len(vector.inputs)} inputs, the model {len(self.graph.inputs)}"
            raise FileFormatError(f"its self-check vector does not fit the model: {text}")
        try:
            model_input.check(self._plan, vector.inputs)
        except InputError as error:
            raise FileFormatError(f"its self-check vector does not fit the model: {error}") from error
        if len(vector.outputs) != len(self.graph.outputs):
            raise FileFormatError(
                f"its self-check vector has {len(vector.outputs)} outputs, the model {len(self.graph.outputs)}"
            )

    def _check_file(self) -> None:
        """Raise FileFormatError if the arrays lie in a mapped file that was written into since."""
        if self._mapped is not None:
            self._mapped.check()

    def _run(self, arrays: Any, batch_size: int, n_threads: int, update: Any, cuts: Any) -> Any:
        """`Plan.predict`, one call at a time where layers remember states."""
        if not self._plan.stateful:
            return self._plan.predict(arrays, batch_size, self._states, n_threads, update, cuts)
        with self._states_lock:
            return self._plan.predict(arrays, batch_size, self._states, n_threads, update, cuts)

    def _pack(self, outputs: list[Any]) -> Predictions:
        """The outputs as the Keras model gives them."""
        self._check_file()
        graph = self.graph
        if (keys := graph.output_keys) is not None:
            return dict(zip(keys, outputs))
        if (numbers := graph.output_nesting) is not None:
            return model_output.nested(numbers, outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    # ---- texts and labels -------------------------------------------------------------------------------------------

    @property
    def text(self) -> TextEncoder | None:
        if not isinstance(self._text, bytes):
            return self._text
        opened: TextEncoder = _texts().opened_text(self, self._text)
        self._text = opened
        return opened

    @text.setter
    def text(self, encoder: TextEncoder | None) -> None:
        self._text = None if encoder is None else _texts().checked_text(self, encoder)

    @property
    def labels(self) -> list[str] | None:
        return None if self._labels is None else list(self._labels)

    @labels.setter
    def labels(self, labels: Sequence[str] | None) -> None:
        self._labels = None if labels is None else _texts().checked_labels(self, labels)

    def predict_text(
        self, texts: Iterable[str] | Iterable[list[str]], batch_size: int | None = None, n_threads: int | None = None
    ) -> Predictions:
        """Compute the outputs for texts, which the model's `text` turns into its input.

        Parameters
        ----------
        texts : list of str, or list of lists of str
            Texts, or the tokens of each. Encoded some at a time, so that memory does not grow with them beside the
            answer.
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
        return _texts().predict_text(self, texts, batch_size, n_threads)

    def classify(
        self,
        x: Sequence[str] | Sequence[Sequence[str]] | ModelInput,
        batch_size: int | None = None,
        n_threads: int | None = None,
        *,
        transitions: NDArray[Any] | Literal["bio"] | None = None,
    ) -> list[dict[str, Any]]:
        """The label of each row, or a tag for each of its tokens, as Python's own types, which go into JSON.

        Parameters
        ----------
        x : list of str, list of lists of str, or what `predict` takes
            Texts, or the tokens of each text, go through the model's `text`.
        batch_size, n_threads
            See `predict`.
        transitions : ndarray (labels, labels) or "bio", optional
            For tags: the best sequence by the sum of logs of probabilities (of outputs that are none, their sum) and
            of these scores, from the tag before to the tag (Viterbi). "bio": the best one that BIO or BIOES allows.
            Default: the best tag of each token. A CRF inside the model has decided already.

        Returns
        -------
        list of dict
            Of each row ``{"label": "pos", "score": 0.9, "scores": {"neg": 0.1, "pos": 0.9}}``: the label, its
            probability, and the probability of every label.
            Where the output has timesteps, ``{"tokens": [...], "tags": [...], "scores": [...], "spans": [...]}``: of
            each token its tag and what the model gives for it, None for a token that was cut off. Spans are those of
            labels such as B-PER: ``{"label": "PER", "tokens": [0, 2], "start": 0, "end": 10, "text": "John Smith"}``,
            characters `start` to `end` - 1 of a text. Rows of numbers have no tokens; masked padding is cut off.

        Raises
        ------
        InputError
            If the model has no labels, its output holds no probabilities, or `x` does not fit.
        """
        from .converted import answers  # who wants arrays waits for none of it

        return answers.classify(self, x, batch_size, n_threads, transitions)


def _texts() -> Any:
    """What handles texts and labels, imported when there are some."""
    from .converted import text_and_labels

    return text_and_labels


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0


def _restore(
    stored: dict[str, Any],
    tensors: dict[str, NDArray[Any]],
    options: dict[str, Any],
    functions: dict[str, Any] | None = None,
) -> Model:
    graph = graph_from_json(stored)
    if functions:
        from .layers import lambdas  # few models hold a Lambda

        graph = lambdas.with_functions(graph, functions)
    try:
        return Model(graph, tensors, **options)
    except (ImportError, RuntimeError):
        # Pickled where there was SciPy or a compiler: any backend gives the same numbers up to rounding.
        return Model(graph, tensors, **{**options, "backend": "auto"})
