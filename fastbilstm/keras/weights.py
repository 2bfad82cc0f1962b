"""The arrays of a file -> the weights of a Graph, by name where the names say it, else in Keras' order.

Two layouts: the HDF5 groups of whole-model and weights-only files (Keras 1 to 3), and the object paths of
`.weights.h5` (inside `.keras`, too). The shapes of arrays are checked later, against the graph.
"""

import re

from ..errors import FileFormatError
from . import legacy
from .hdf5 import attribute, child, is_group, name_list, read_array

_NON_TRAINABLE = {"moving_mean", "moving_variance", "mean", "variance", "count"}
# Classes that have another name in object paths.
_PATH_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}


class Slot:
    """One place for an array: the layer that takes it, its role, and what the file may call it."""

    def __init__(self, layer, role, tensor, names, trainable):
        self.layer, self.role, self.tensor, self.names, self.trainable = layer, role, tensor, names, trainable


def slots(layer, trainable, path=(), names=()):
    """All slots of a layer and of those inside it, in the order in which Keras creates the weights."""
    path = (*path, layer.name)
    found = []
    for role, tensor in layer.weights.items():
        learned = trainable.get(path, True) and role not in _NON_TRAINABLE
        found.append(Slot(layer, role, tensor, {layer.name, *names}, learned))
    inner = layer.layers if layer.graph is None else layer.graph.layers
    for part in inner:
        found += slots(part, trainable, path, {layer.name} if layer.class_name == "TimeDistributed" else ())
    return found


# ---- groups by layer (whole-model and weights-only .h5) -------------------------------------------------------------


def read_groups(container, graph, trainable, label, all_layers):
    """Read the HDF5 layout with one group for each layer.

    Parameters
    ----------
    container : h5py.Group
        The group that has the attribute layer_names.
    graph : Graph
        Its layers name the tensors that are wanted.
    trainable : dict
        What ConfigReader recorded.
    all_layers : list of str
        Names of all layers of the model in Keras' order, for files whose layers have other names.

    Returns
    -------
    dict of str to ndarray
    """
    version = attribute(container, "keras_version")
    is_keras1 = version is None or version.startswith("1")
    in_file = []
    for layer_name in name_list(container, "layer_names"):
        group = child(container, layer_name, "group", label)
        weight_names = name_list(group, "weight_names")
        if weight_names:
            in_file.append((layer_name, group, weight_names))
    wanted = [(layer, slots(layer, trainable)) for layer in graph.layers]
    wanted = [(layer, found) for layer, found in wanted if found]
    by_name = {name: (group, weights) for name, group, weights in in_file}
    tensors = {}
    missing = [layer.name for layer, _ in wanted if layer.name not in by_name]
    if missing:
        # Other names (auto-numbered in another session): Keras goes by order, and so can we if no layer was cut off.
        if len(wanted) != len(in_file) or len(graph.layers) < len(all_layers):
            raise FileFormatError(
                f"{label}: no weights for layer {missing[0]!r}; the file holds weights for {', '.join(by_name)}"
            )
        by_name = {layer.name: (group, names) for (layer, _), (_, group, names) in zip(wanted, in_file)}
    for layer, places in wanted:
        group, names = by_name[layer.name]
        arrays = [read_array(group, name, label) for name in names]
        where = f"{label}: layer {layer.name!r} ({layer.class_name})"
        if is_keras1:
            arrays, names = _from_keras1(places, arrays, where), None
        tensors.update(_match(places, names, arrays, where))
    return tensors


def _from_keras1(places, arrays, where):
    """Turn the arrays of one Keras 1 layer into today's, in the order of the slots."""
    result, position = [], 0
    while position < len(places):
        layer = places[position].layer
        count = len(layer.weights)
        if layer.class_name == "LSTM":
            taken, arrays = legacy.keras1_arrays("LSTM", layer.config["units"], arrays, where)
        else:
            taken, arrays = arrays[:count], arrays[count:]
        result += taken
        position += count
    return result + arrays


def _normal_name(name):
    """Split a variable's path and give (parts, role): 'bidirectional/forward_lstm/lstm_cell/kernel:0' and so on."""
    parts = name.split(":")[0].split("/")
    role = parts[-1]
    return set(parts[:-1]), role


def _match(places, names, arrays, where):
    """Give every slot its array: by name if that is unique and complete, else by Keras' order."""
    if len(places) != len(arrays):
        raise FileFormatError(
            f"{where}: the file holds {len(arrays)} arrays for it, the architecture needs {len(places)}"
        )
    several = len({id(place.layer) for place in places}) > 1
    chosen = _match_names(places, names) if names is not None and several else None
    if chosen is None:
        order = [k for k, p in enumerate(places) if p.trainable] + [k for k, p in enumerate(places) if not p.trainable]
        chosen = {slot: array for array, slot in enumerate(order)}
    tensors = {place.tensor: arrays[chosen[k]] for k, place in enumerate(places)}
    for place in places:
        convert_cudnn(place, tensors)
    return tensors


def _match_names(places, names):
    chosen = {}
    for number, name in enumerate(names):
        parts, role = _normal_name(name)
        fits = [k for k, p in enumerate(places) if p.names & parts and _has_role(p, parts, role)]
        if len(fits) != 1 or fits[0] in chosen:
            return None
        chosen[fits[0]] = number
    return chosen


def _has_role(place, parts, role):
    """Whether a variable is the one of a slot; a role such as query/kernel names a layer inside the layer, too."""
    *inside, last = place.role.split("/")
    return set(inside) <= parts and re.fullmatch(last + r"(_\d+)?", role)


def convert_cudnn(place, tensors):
    """Convert the weights of an LSTM in place where the size of its bias says that CuDNNLSTM wrote them."""
    layer = place.layer
    if layer.class_name == "LSTM" and place.role == "bias":
        units = layer.config["units"]
        names = [layer.weights[role] for role in ("kernel", "recurrent_kernel", "bias")]
        if tensors[names[2]].shape == (8 * units,) and all(tensors[n].shape[-1:] == (4 * units,) for n in names[:2]):
            for name, array in zip(names, legacy.cudnn_lstm(*(tensors[n] for n in names))):
                tensors[name] = array


# ---- object paths (.weights.h5) -------------------------------------------------------------------------------------


def snake_case(name):
    """Keras' name of a class in object paths: LSTM -> lstm, TimeDistributed -> time_distributed."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def read_paths(root, graph, trainable, label, class_names):
    """Read the layout of `.weights.h5`: /layers/<class>[_n]/.../vars/0, 1, ...

    `class_names` are Keras' class names of all layers of the model, by name and in order: the counter in a path runs
    over the layers of one class. A nested model is given as (class name, {its layers}).
    """
    tensors = {}
    by_layer = _layer_groups(root, class_names, label)
    for layer in graph.layers:
        places = slots(layer, trainable)
        if not places:
            continue
        if layer.name not in by_layer:
            raise FileFormatError(f"{label}: no weights for layer {layer.name!r} ({layer.class_name})")
        _read_object(by_layer[layer.name], layer, class_names.get(layer.name), trainable, label, tensors)
    return tensors


def _layer_groups(root, class_names, label):
    """Which group below /layers belongs to which layer: by the name stored in it, else by class and number."""
    for container in ("layers", "_layer_checkpoint_dependencies"):
        if is_group(root, container):
            break
    else:
        raise FileFormatError(f"{label}: no group 'layers'; this is no .weights.h5 file of Keras 3 or tf.keras")
    groups = child(root, container, "group", label)
    present = {name: child(groups, name, "group", label) for name in groups if is_group(groups, name)}
    stored = {}
    for group in present.values():
        if is_group(group, "vars"):
            text = attribute(child(group, "vars", "group", label), "name")
            if text:
                stored[text] = group
    counters, result = {}, {}
    step = 2 if container.startswith("_") else 1
    for layer_name, class_name in class_names.items():
        class_name = class_name[0] if isinstance(class_name, tuple) else class_name
        snake = snake_case(_PATH_CLASSES.get(class_name, class_name))
        number = counters.get(snake, 0)
        counters[snake] = number + step
        by_number = present.get(snake if number == 0 else f"{snake}_{number}")
        if step == 2 and by_number is None:
            # tf.keras 2.12 to 2.14 visit a layer with weights twice and one without weights once.
            counters[snake] = number + 1
        found = stored.get(layer_name, by_number)
        if found is not None:
            result[layer_name] = found
    return result


def _read_object(group, layer, class_name, trainable, label, tensors):
    where = f"{label}: layer {layer.name!r} ({layer.class_name})"
    if layer.graph is not None:
        inner = class_name[1] if isinstance(class_name, tuple) else {}
        for part, part_group in _layer_groups(group, inner, label).items():
            target = next((item for item in layer.graph.layers if item.name == part), None)
            if target is not None and slots(target, trainable):
                _read_object(part_group, target, inner.get(part), trainable, label, tensors)
        return
    children = {"TimeDistributed": ("layer",), "Bidirectional": ("forward_layer", "backward_layer")}
    if layer.layers:
        inner = class_name[1] if isinstance(class_name, tuple) else {}
        for part, attribute_name in zip(layer.layers, children[layer.class_name]):
            if slots(part, trainable):
                _read_object(
                    child(group, attribute_name, "group", label), part, inner.get(part.name), trainable, label, tensors
                )
        return
    if any("/" in role for role in layer.weights):
        _read_parts(group, layer, label, tensors)
        return
    if list(layer.weights) == ["idf_weights"]:
        tensors[layer.weights["idf_weights"]] = read_array(child(group, "vars", "group", label), "idf_weights", label)
        return
    holder = child(group, "cell/vars" if layer.class_name == "LSTM" else "vars", "group", label)
    places = slots(layer, trainable)
    if len(holder) != len(places):
        raise FileFormatError(f"{where}: the file holds {len(holder)} arrays for it, it needs {len(places)}")
    for number, place in enumerate(places):
        tensors[place.tensor] = read_array(holder, str(number), label)
    for place in places:
        convert_cudnn(place, tensors)


def _read_parts(group, layer, label, tensors):
    """A layer made of Dense layers, such as MultiHeadAttention: query/kernel is array 0 of query_dense/vars."""
    numbers = {}
    for role, tensor in layer.weights.items():
        part = role.split("/")[0].removeprefix("attention_")
        public, number = f"{part}_dense", numbers.get(part, 0)
        numbers[part] = number + 1
        name = public if is_group(group, public) else f"_{public}"
        tensors[tensor] = read_array(child(group, f"{name}/vars", "group", label), str(number), label)
