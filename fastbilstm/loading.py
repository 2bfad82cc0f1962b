"""load: from a file of any kind to a Model.

Tells kinds apart by content, never by suffix. Keras files are read by `keras/`, imported only when one is met.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Literal

from . import safe_files
from .checks import read_file
from .converted import fbl_file
from .errors import FastBiLSTMError, FileFormatError, InputError, UnreadableFileError
from .keras.asked import Asked
from .layers.functional import faults_of, with_any_length
from .model import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Protocol, TypeAlias

    from _typeshed import SupportsRead
    from numpy.typing import NDArray

    from .graph import Graph

    class KerasModel(Protocol):
        """A model of Keras 3, tf_keras or tensorflow.keras, as far as it is used."""

        @property
        def layers(self) -> Any: ...

        def get_config(self) -> Any: ...

        def save(self, filepath: Any, /) -> Any: ...

    ModelSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | SupportsRead[bytes] | KerasModel

_HEAD = 16
# In place of the first bytes, where there is no single file.
_TENSORFLOW = b"TensorFlow"


def _read_source(path: Any) -> tuple[str | bytes, bytes, str]:
    """Return (path or bytes, first bytes, label for errors)."""
    if isinstance(path, (bytes, bytearray, memoryview)):
        content = bytes(path)
        return content, content[:_HEAD], "<bytes>"
    if hasattr(path, "read"):
        content = path.read()
        if not isinstance(content, bytes):
            raise FileFormatError("the file object gives text; open it in binary mode ('rb')")
        return content, content[:_HEAD], str(getattr(path, "name", "<file object>"))
    if hasattr(path, "get_config") and hasattr(path, "save"):
        from .keras import live  # few models are given so

        content, label = live.content_of(path)
        return content, content[:_HEAD], label
    try:
        name = os.fspath(path)
    except TypeError as error:
        raise TypeError(
            f"path is of type {type(path).__name__}; expected a path, bytes, a binary file or a Keras model"
        ) from error
    name = os.fsdecode(name)
    if os.path.isfile(os.path.join(name, "model.json")):  # a folder of TensorFlow.js
        name = os.path.join(name, "model.json")
    return name, _TENSORFLOW if _is_tensorflow(name) else read_file(name, _HEAD), name


def _is_tensorflow(name: str) -> bool:
    """Whether a path is that of a SavedModel or a checkpoint: several files, of which it names a folder or a prefix."""
    if os.path.isdir(name):
        return any(os.path.isfile(os.path.join(name, part)) for part in ("saved_model.pb", "checkpoint"))
    folder, base = os.path.split(name)
    if base == "saved_model.pb":
        return os.path.isdir(os.path.join(folder, "variables"))
    prefix = name.removesuffix(".index").partition(".data-")[0]
    return os.path.isfile(f"{prefix}.index") and (prefix != name or not os.path.exists(name))


@contextlib.contextmanager
def _naming(label: str) -> Iterator[None]:
    """Errors have the name of the file in them; what checks graphs and layers does not know the file."""
    try:
        yield
    except FileFormatError as error:
        if label in str(error) or isinstance(error, UnreadableFileError):
            raise
        raise FileFormatError(f"{label}: {error}") from error


def read_model_file(
    path: Any, config: Any = None, asked: Asked | None = None
) -> tuple[Graph, dict[str, NDArray[Any]], fbl_file.Vector | None, dict[str, Any], str]:
    """Return (graph, tensors, vector or None, dict of text and labels, label) of a converted or a Keras file."""
    source, head, label = _read_source(path)
    with _naming(label):
        return (*_read(source, head, label, config, asked or Asked()), label)


def is_converted(path: Any) -> bool:
    """Whether a path, or what else `load` takes, leads to a converted file."""
    return fbl_file.looks_converted(_read_source(path)[1])


def _read(
    source: str | bytes, head: bytes, label: str, config: Any, asked: Asked
) -> tuple[Graph, dict[str, NDArray[Any]], fbl_file.Vector | None, dict[str, Any]]:
    if asked.outputs is not None and not asked.outputs:
        raise FileFormatError(f"{label}: outputs is empty; name at least one layer or leave it out")
    if not head:
        raise FileFormatError(f"{label}: is empty")
    if fbl_file.looks_converted(head):
        if config is not None or asked.outputs is not None or asked.inference:
            raise FileFormatError(
                f"{label}: a converted model; config, outputs and inference belong to its conversion from the Keras "
                "file"
            )
        graph, tensors, vector, bundle = fbl_file.read(source, label)
        if asked.lambdas or any(layer.class_name == "Lambda" for _, layer in graph.walk()):
            from .layers.lambdas import with_functions  # few models hold a Lambda

            graph = with_functions(graph, asked.lambdas)
        return graph, tensors, vector, bundle
    from .keras import other_files, reader  # reader imports h5py, an optional package

    if head == _TENSORFLOW or head.startswith(reader.ZIP_MAGIC):
        from .keras.tensorflow import saved_model  # with such files alone

        files = saved_model.saved_model_files(source, head)
        if files is not None:
            return (*saved_model.read_saved_model(files, label, config, asked), None, {})
        if head == _TENSORFLOW:
            return (*saved_model.read_checkpoint(source, label, config, asked), None, {})
    known = None if isinstance(source, bytes) else safe_files.identity(source)
    if head.startswith(reader.ZIP_MAGIC) or reader.is_hdf5(head, source):
        found = reader.read_keras(source, head, label, config, asked)
    elif head.lstrip().startswith(b"{"):
        found = reader.read_json_index(source, label, config, asked)
    else:
        words = other_files.what_path_is(source, label)
        raise FileFormatError(
            f"{label}: {words}"
            if words is not None
            else f"{label}: neither a converted model nor a Keras file (.h5, .keras, .weights.h5, .weights.json); "
            f"it begins with {head[:8]!r}"
        )
    if not isinstance(source, bytes) and known is not None and not safe_files.is_still(source, known):
        raise FileFormatError(f"{label}: was changed or replaced while it was read; load it again")
    return (*found, None, {})


def load(
    path: ModelSource,
    *,
    config: dict[str, Any] | str | os.PathLike[str] | None = None,
    outputs: str | Sequence[str] | None = None,
    any_length: bool = False,
    inference: bool = False,
    lambdas: dict[str, Callable[[Any], Any]] | None = None,
    dtype: Literal["float32", "float64"] | None = None,
    check: bool = False,
    backend: Literal["auto", "vector", "blas", "numpy"] = "auto",
    n_threads: int | None = None,
    memory_budget: int | None = None,
    weights: Literal["float32", "bfloat16", "float16", "int8"] | None = None,
) -> Model:
    """Load a converted model, a Keras file, or a Keras model in memory.

    Parameters
    ----------
    path : str, PathLike, bytes, binary file object or Keras model
        A converted file (.fbl), or a Keras file of any version from 1.0 on: .h5 / .hdf5, .keras, .weights.h5, and
        .weights.json with its shards beside it; or a layers model of TensorFlow.js: model.json with its shards beside
        it, or their folder; a SavedModel folder of a Keras model (TensorFlow 2.0 to 2.15), its saved_model.pb or a zip
        of it; a TensorFlow checkpoint by its prefix, one of its files or the folder with the file checkpoint. The kind
        is found from the content.

        A built model of Keras 3, tf_keras or tensorflow.keras saves itself into a temporary file, and that is read:
        later training does not change what was loaded, and stateful layers begin with zeros.

        A converted file of more than 64 MiB stays mapped, and processes share its pages: to replace it rename another
        file to its name, as `convert` and `save` do. After it was written into where it lies, predictions raise
        FileFormatError; if it is made shorter while one runs, the system ends the process. Give its bytes to have it
        in memory. Smaller files are read into memory.
    config : dict, str or PathLike, optional
        For files that hold weights only: the architecture as a dictionary, JSON text, or the path of a JSON or YAML
        file.
    outputs : list of str, optional
        Names of the layers to cut the graph at, for files that end in a loss or a Lambda ("name:1" for the second call
        of a shared layer).
    any_length : bool
        Take sequences of any number of timesteps where the model fixes it (``Input((20, 3))``), as Keras 3 and
        functional models of tf.keras do. A model that computes with this number (Flatten before Dense) is refused;
        inputs that only it needs keep theirs.
    inference : bool
        Switch off training=True in the calls of a Keras 1, Keras 2 or tf.keras file (dropout at prediction, as for
        Monte Carlo estimates); else such a file is refused. Keras 3 itself does so when it predicts.
    lambdas : dict of str to callable, optional
        For each Lambda layer by its name ("model/name" inside a model) a NumPy function in place of the code in the
        file, which is never run: function(x) -> array, or a list of arrays; x: array (batch, ...), read-only, floats in
        the dtype of computation; a list of arrays where the layer is called with several tensors. Its output shape is
        found by calling it on zeros. A converted file does not hold it: give it again.
    dtype : {"float32", "float64"}, optional
        Precision of computation; default the model's own.
    check : bool
        Run the self-check vector of a converted file and raise if it does not give the recorded numbers.
    backend : {"auto", "vector", "blas", "numpy"}
        What computes: "vector", our float32 kernels; "blas", compiled loops over SciPy's BLAS, float32 and float64;
        "numpy", the specification. "auto" takes "vector" for float32 wherever the build has kernels, else "blas" where
        SciPy is installed, else "numpy".
    n_threads : int, optional
        Threads of a prediction at most. Default: the cores this process may use (affinity, cgroup quota), and no more
        than OMP_NUM_THREADS.
    memory_budget : int, optional
        Bytes that tables may take: of projected embeddings, which turn an input product into a look-up, and of states
        after padding in front, which is not computed again; default 64 MiB, 0 for none. It changes time and memory, not
        results.
    weights : {"float32", "bfloat16", "float16", "int8"}, optional
        The form of kernels and embeddings. Default: what the file holds, float32 but for files that `convert` narrowed.
        A narrow form changes the answers; see docs/narrow-weights.md. What was narrowed cannot be widened again: a file
        that holds one form is refused for another.

    Returns
    -------
    Model

    Raises
    ------
    FileFormatError
        If the file is of no known kind, malformed, or contradicts itself; or cannot be read: then it is a
        FileNotFoundError, IsADirectoryError or PermissionError, too.
    UnsupportedLayerError
        If the model holds something that is not supported; lists all of it.
    MissingExtraError
        If an optional package is needed and not installed.
    """
    outputs = [outputs] if isinstance(outputs, str) else None if outputs is None else list(outputs)
    functions: dict[str, Any] = {}
    if lambdas is not None:
        from .layers.lambdas import check_functions  # few models hold a Lambda

        functions = check_functions(lambdas)
    graph, tensors, vector, bundle, label = read_model_file(path, config, Asked(outputs, functions, inference))
    with _naming(label):
        if any_length:
            with faults_of(graph):
                graph = with_any_length(graph, {name: array.shape for name, array in tensors.items()}, graph.dtype)
        held = bundle.setdefault("weights", "float32")
        if weights is not None and weights != held:
            tensors, vector, bundle["weights"] = _narrowed(graph, tensors, held, weights), None, weights
        model = Model(
            graph,
            tensors,
            dtype=dtype,
            backend=backend,
            n_threads=n_threads,
            memory_budget=memory_budget,
            vector=vector,
            source=label,
            **bundle,
        )
        if vector is not None:
            model.check_vector(vector)
        try:
            if bundle.get("labels") is not None:  # few files hold labels; checking them imports preprocessing
                model.labels = bundle["labels"]
        except InputError as error:
            raise FileFormatError(f"{label}: its labels do not fit it: {error}") from error
        model._check_file()
    if check:
        result = model.self_check()
        if not result:
            raise FastBiLSTMError(f"{label}: the self-check failed: {result.message}")
    return model


def _narrowed(graph: Graph, tensors: Mapping[str, NDArray[Any]], held: str, form: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file that holds the form `held`, in another one."""
    from .engine.narrow_layers import narrow  # few models are narrowed
    from .engine.weight_forms import FORMS

    if form not in FORMS:
        raise InputError(f"weights is {form!r}; expected one of {', '.join(FORMS)}")
    if held != "float32":
        raise FileFormatError(
            f"it holds its weights in {held} alone, and they cannot become {form}: leave weights={form!r} "
            f"(--weights {form}) out, or take the Keras file"
        )
    return narrow(graph, tensors, form)


def narrowed_model(model: Model, form: str) -> Model:
    """A float32 model with its weights in another form, and with its text and labels."""
    with _naming(model.source):
        tensors = _narrowed(model.graph, model._tensors, model.weights, form)
        options = model._options() | {"weights": form, "text": model._text, "labels": model.labels}
        return Model(model.graph, tensors, **options)
