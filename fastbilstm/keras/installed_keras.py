"""The installed Keras (3, or tf_keras for older files), as a reference to compare with.

Keras gets a model built of its own layers from our Graph and arrays (rebuilt_in_keras.py), not the file: Keras would
run the code of a Lambda in the file. Only a file that the user trusts is given to Keras.

Imports Keras inside functions: it is optional, and the import takes seconds.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .architecture import read_config
from .rebuilt_in_keras import CannotRebuild, flat, reason_of, rebuild

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..graph import Graph


class KerasUnavailable(Exception):
    """Why a comparison with Keras cannot be made."""


class TrustedFile(NamedTuple):
    """A Keras file that the user trusts, with `config` and `outputs` as in `fastbilstm.load`."""

    path: Any
    config: Any = None
    outputs: Any = None


def run(
    graph: Graph,
    tensors: Mapping[str, NDArray[Any]],
    inputs: list[NDArray[Any]],
    trusted: TrustedFile | None = None,
) -> tuple[str, list[NDArray[Any]]]:
    """Compute the outputs of a model in the installed Keras for `inputs`, a list of arrays.

    Parameters
    ----------
    graph, tensors
        What was read from the file; Keras is given a model built from them.
    inputs : list of ndarray
    trusted : TrustedFile, optional
        The file itself, for Keras to load instead: this runs code that the file holds.

    Returns
    -------
    (str, list of ndarray)
        Name and version of the framework, and the outputs.

    Raises
    ------
    KerasUnavailable
        With the reason, which names the layer if it is one.
    """
    title, live = live_model(graph, tensors, trusted)
    try:
        results = flat(live(list(inputs) if len(inputs) > 1 else inputs[0], training=False))
        return title, [np.asarray(y) for y in results]
    except Exception as error:
        raise KerasUnavailable(f"{title} refuses the made-up input ({reason_of(error)})") from error


def live_model(
    graph: Graph, tensors: Mapping[str, NDArray[Any]], trusted: TrustedFile | None = None
) -> tuple[str, Any]:
    """Name and version of the installed Keras, and the model in it; see `run`."""
    name, framework = _framework(graph)
    title = f"{name} {framework.__version__}"
    try:
        return title, rebuild(framework, graph, tensors) if trusted is None else _load(framework, trusted)
    except CannotRebuild as reason:
        text = "trust=True (--trust) hands it the file itself, for files whose code may run"
        raise KerasUnavailable(f"{title} cannot be given this model: {reason}. {text}") from reason
    except Exception as error:
        raise KerasUnavailable(f"{title} cannot load it ({reason_of(error)})") from error


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


# ---- files that the user trusts -------------------------------------------------------------------------------------


def _load(framework, trusted):
    """The model of a file, cut at its outputs, as Keras loads it: code in the file runs."""
    path, config, outputs = trusted
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
            name, _, call = output.partition(":")
            layer = model.get_layer(name)
            tensors.append(layer.get_output_at(int(call)) if call else layer.output)
        model = framework.Model(model.inputs, tensors)
    return model


def _load_with_suffix(framework, path, suffix):
    """Keras needs the right suffix. If the file has another one, load it through a link with the right name."""
    if os.fspath(path).endswith((suffix, ".hdf5") if suffix == ".h5" else suffix):
        return framework.models.load_model(path, compile=False, safe_mode=False)
    with tempfile.TemporaryDirectory() as folder:
        link = os.path.join(folder, "model" + suffix)
        os.symlink(os.path.abspath(path), link)
        return framework.models.load_model(link, compile=False, safe_mode=False)
