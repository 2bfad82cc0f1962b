"""Run a Keras file in the installed Keras (3, or tf_keras for older files), to compare with; only where asked.

Imports Keras inside functions: it is optional, and takes seconds.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from .reader import read_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graph import Graph


class KerasUnavailable(Exception):
    """Why a comparison with Keras cannot be made."""


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


def load(path, config, outputs, graph):
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


def run(
    path: str, config: Any, outputs: list[str] | None, graph: Graph, inputs: list[NDArray[Any]]
) -> tuple[str, list[NDArray[Any]]]:
    """Load a Keras file in the installed Keras and compute its outputs for `inputs`.

    Returns
    -------
    (str, list of ndarray)
        Name and version of the framework, and the outputs.
    """
    title, live = load(path, config, outputs, graph)
    results = live(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
    results = list(results.values()) if isinstance(results, dict) else results
    return title, [np.asarray(y) for y in (results if isinstance(results, (list, tuple)) else [results])]
