"""`fastbilstm verify`: is this model right? By its SHA-256, its recorded vector, and Keras itself where installed.

Imports Keras 3 or tf_keras only to compare, and only if asked to verify.
"""

import importlib.util
import os
import tempfile
from dataclasses import dataclass

import numpy as np

from . import vector as vectors
from .errors import FastBiLSTMError, FileFormatError
from .loading import load
from .model import Model
from .tolerances import compare
from .weights_file import Vector


@dataclass(frozen=True)
class Report:
    """`ok`, and the `text` that says what was compared with what."""

    ok: bool
    text: str


class KerasUnavailable(Exception):
    """Why a comparison with Keras cannot be made."""


def verify(path, against=None, config=None, outputs=None, dtype=None):
    """Verify a model; see the module's description.

    Parameters
    ----------
    path : str
        A converted or a Keras file.
    against : str, optional
        For a converted file: the Keras file it came from.
    config, outputs, dtype
        See `fastbilstm.load`; config and outputs belong to the Keras file.

    Returns
    -------
    Report
    """
    label = os.fspath(path)
    lines, ok = [], True
    keras_options = {"config": config, "outputs": outputs}
    model = load(path, dtype=dtype, **(keras_options if against is None else {}))
    is_converted = model.vector is not None
    if is_converted:
        lines.append(f"{label}: SHA-256 matches")
        result = model.self_check()
        ok = result.ok
        lines.append(f"recorded vector: {result.message}")
        keras_file = against
    else:
        if against is not None:
            raise FileFormatError(f"{label}: is a Keras file itself; --against goes with a converted model")
        keras_file = path
    if keras_file is None:
        lines.append("not compared with Keras: give the Keras file it came from with --against")
        return Report(ok, "\n".join(lines))
    if against is not None:
        same = same_model(load(against, **keras_options), model)
        ok = ok and same
        lines.append(f"{against}: {'holds the same weights' if same else 'MISMATCH: holds other weights or layers'}")
    try:
        compared, good = _compare_with_keras(keras_file, config, outputs, model)
        return Report(ok and good, "\n".join(lines + compared))
    except KerasUnavailable as reason:
        lines.append(f"not compared with Keras: {reason}")
    if not is_converted:
        result = model.self_check()
        ok = ok and result.ok
        lines.append(f"{label}: {result.message}")
    return Report(ok, "\n".join(lines))


def same_model(first, second):
    """Whether two models hold the same arrays, in order."""
    mine, other = first.get_weights(), second.get_weights()
    return len(mine) == len(other) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(mine, other))


def _framework(graph):
    """Import the Keras that has the semantics of the file: Keras 3 for its own, tf_keras for all before."""
    name = "keras" if graph.keras.is_keras3 else "tf_keras"
    if importlib.util.find_spec(name) is None:
        raise KerasUnavailable(f"{name} is not installed")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        framework = importlib.import_module(name)
    except Exception as error:
        raise KerasUnavailable(f"{name} cannot be imported ({error})") from error
    if name == "keras" and not framework.__version__.startswith("3"):
        raise KerasUnavailable(f"the file was written by {graph.keras}, keras {framework.__version__} is installed")
    return name, framework


def load_in_keras(path, config, outputs, graph):
    """Load a Keras file in the installed Keras; raise KerasUnavailable, with its reason, if it cannot.

    Returns
    -------
    (str, keras.Model)
        Name and version of the framework, and the model.
    """
    name, framework = _framework(graph)
    try:
        if config is None:
            with open(path, "rb") as file:
                suffix = ".keras" if file.read(2) == b"PK" else ".h5"
            model = _load_with_suffix(framework, path, suffix)
        else:
            import json

            from .keras.reader import read_config

            model = framework.models.model_from_json(json.dumps(read_config(config, str(config))))
            model.load_weights(path)
        if outputs:
            tensors = []
            for output in outputs:
                name_of_layer, _, call = output.partition(":")
                layer = model.get_layer(name_of_layer)
                tensors.append(layer.get_output_at(int(call)) if call else layer.output)
            model = framework.Model(model.inputs, tensors)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        title = f"{name} {framework.__version__}"
        raise KerasUnavailable(f"{title} cannot load it ({type(error).__name__}: {reason})") from error
    return f"{name} {framework.__version__}", model


def _load_with_suffix(framework, path, suffix):
    """Keras goes by the suffix; where it is another, load through a link of the right name."""
    if os.fspath(path).endswith((suffix, ".hdf5") if suffix == ".h5" else suffix):
        return framework.models.load_model(path, compile=False)
    with tempfile.TemporaryDirectory() as folder:
        link = os.path.join(folder, "model" + suffix)
        os.symlink(os.path.abspath(path), link)
        return framework.models.load_model(link, compile=False)


def run_in_keras(path, config, outputs, graph, inputs):
    """Load a Keras file in the installed Keras and compute its outputs for `inputs`.

    Returns
    -------
    (str, list of ndarray)
        Name and version of the framework, and the outputs.
    """
    title, live = load_in_keras(path, config, outputs, graph)
    results = live(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
    results = list(results.values()) if isinstance(results, dict) else results
    return title, [np.asarray(y) for y in (results if isinstance(results, (list, tuple)) else [results])]


def record_with_keras(path, config, outputs, model):
    """A self-check vector whose outputs the installed Keras computed; FastBiLSTMError if it cannot."""
    inputs = list(vectors.make(model.graph, model._tensors).inputs)
    outputs = None if outputs is None else [outputs] if isinstance(outputs, str) else list(outputs)
    try:
        title, results = run_in_keras(os.fspath(path), config, outputs, model.graph, inputs)
    except KerasUnavailable as reason:
        raise FastBiLSTMError(f"{model.source}: no vector can be recorded with Keras: {reason}") from reason
    return Vector(tuple(inputs), tuple(results), title)


def _compare_with_keras(path, config, outputs, model):
    inputs = list(vectors.make(model.graph, model._tensors).inputs)
    title, theirs = run_in_keras(path, config, outputs, model.graph, inputs)
    ours = Model(model.graph, model._tensors, dtype=model.dtype, backend=model.backend)._plan.run(inputs, {})
    lines, ok = [f"compared with {title} on {len(inputs[0])} rows, {model.dtype}"], len(ours) == len(theirs)
    dtype = "float64" if model.dtype == "float64" and theirs[0].dtype == np.float64 else "float32"
    for info, y, k in zip(model.outputs, ours, theirs):
        result = compare(y, k, dtype)
        ok = ok and result.ok
        where = f" at {result.where}" if result.where else ""
        lines.append(
            f"  output {info.name!r}: {'ok' if result.ok else 'MISMATCH'}, largest absolute error "
            f"{result.max_abs:.3g}, relative to max|k| {result.max_rel:.3g}{where}"
        )
        if not result.ok:
            lines.append(f"    {result.message}")
    return lines, ok
