"""The arrays of a layer in whole-model and weights-only .h5 files (Keras 1 to 3): an HDF5 group for each layer.

Nothing is read here, as in weights.py.
"""

import re

from ..errors import FileFormatError
from . import legacy
from .hdf5 import attribute, child, find_array, name_list
from .weights import match, slots

# Where SpectralNormalization begins to look for the largest singular value in training.
_VECTOR_U = re.compile(r"(.*/)?vector_u(_\d+)?(:0)?")


def read_groups(container, graph, trainable, label, class_names, notes):
    """Read the HDF5 layout with one group for each layer.

    Parameters
    ----------
    container : h5py.Group
        The group that has the attribute layer_names.
    graph : Graph
        Its layers name the tensors that are wanted.
    trainable : dict
        What ConfigReader recorded.
    class_names : dict
        Keras' class names of all layers of the model, for files whose layers have other names; see `read_paths`.
    notes : list of str
        Takes how weights were paired with layers.

    Returns
    -------
    dict of str to Stored
    """
    version = attribute(container, "keras_version")
    is_keras1 = version is None or version.startswith("1")
    in_file, broken_off = [], None
    for layer_name in name_list(container, "layer_names"):
        if layer_name not in container:  # save_weights stops at a layer that it cannot save, such as TextVectorization
            broken_off = broken_off or layer_name
            continue
        group = child(container, layer_name, "group", label)
        weight_names = name_list(group, "weight_names", optional=True)
        if weight_names:
            in_file.append((layer_name, group, weight_names))
    wanted = [(layer, slots(layer, trainable)) for layer in graph.layers]
    wanted = [(layer, found) for layer, found in wanted if found]
    by_name = {name: (group, weights) for name, group, weights in in_file}
    tensors = {}
    missing = [layer.name for layer, _ in wanted if layer.name not in by_name]
    if missing and broken_off is not None:
        raise FileFormatError(
            f"{label}: no weights for layer {missing[0]!r}: the file breaks off before layer {broken_off!r}"
        )
    if missing:
        # Other names (numbered by Keras in another run): Keras goes by order; so do we, if the graph was not cut.
        n_layers = sum(name != "InputLayer" for name in class_names.values())
        if len(wanted) != len(in_file) or len(graph.layers) < n_layers:
            raise FileFormatError(
                f"{label}: no weights for layer {missing[0]!r}; the file holds weights for {', '.join(by_name)}"
            )
        notes.append(f"weights are paired with layers by order; the file calls the layers {', '.join(by_name)[:300]}")
        by_name = {layer.name: (group, names) for (layer, _), (_, group, names) in zip(wanted, in_file)}
    else:
        notes.append("weights are paired with layers by name")
    for layer, places in wanted:
        group, names = by_name[layer.name]
        names = [name for name in names if not _VECTOR_U.fullmatch(name)]
        arrays = [find_array(group, name, label) for name in names]
        where = f"{label}: layer {layer.name!r} ({layer.class_name})"
        if any("/lora_" in name for name in names):
            raise FileFormatError(
                f"{where}: holds its LoRA matrices beside its weights, which is not supported; save it as .keras or "
                ".weights.h5, where Keras adds them to the weights"
            )
        if is_keras1:
            arrays, names = _from_keras1(places, arrays, where), None
        tensors.update(match(places, names, arrays, where))
    return tensors


def _from_keras1(places, arrays, where):
    """Turn the arrays of one Keras 1 layer into today's, in the order of the slots."""
    result, position = [], 0
    while position < len(places):
        layer = places[position].layer
        count = len(layer.weights)
        if layer.class_name in ("LSTM", "GRU", "SimpleRNN", "ConvLSTM2D"):
            units = layer.config.get("units", layer.config.get("filters"))
            taken, arrays = legacy.keras1_arrays(layer.class_name, units, arrays, where)
        else:
            taken, arrays = arrays[:count], arrays[count:]
            taken = [legacy.keras1_kernel(layer.class_name, layer.config, array) for array in taken]
        result += taken
        position += count
    return result + arrays


def arrays_in_groups(container, layer_name, label):
    """[(role, shape)] of the arrays that the layout with one group for each layer holds for one of them."""
    group = child(container, layer_name, "group", label)
    found = []
    for name in name_list(group, "weight_names"):
        path = name.split(":")[0].removeprefix(f"{layer_name}/").replace("/", "_")
        found.append((path.removeprefix(f"{layer_name}_"), find_array(group, name, label).shape))
    return found
