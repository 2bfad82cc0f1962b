"""Which array of a file is which weight of a Graph: by name if names are unique, else in the order of Keras.

weight_groups.py and object_paths.py find the arrays in the two layouts of files. Nothing is read here: an array is
Stored, and the reader compares all shapes with the graph first.
"""

import re

from ..errors import FileFormatError
from ..layers import REGISTRY, names_in_file
from ..layers.quantized import PREFIXES
from . import legacy
from .hdf5 import Stored
from .nodes import WRAPPERS

_NON_TRAINABLE = {"moving_mean", "moving_variance", "mean", "variance", "count"}
_NON_TRAINABLE |= {"moving_stddev", "renorm_mean", "renorm_stddev"}


class Slot:
    """A place for one array: the layer that takes it, its role, its names in the file, and the layers around it.

    `pattern`: how the array of a class of another package is named in .h5 files; None for Keras' own layers.
    """

    def __init__(self, layer, role, tensor, names, trainable, path, pattern):
        self.layer, self.role, self.tensor, self.names, self.trainable = layer, role, tensor, names, trainable
        self.path, self.pattern = path, pattern

    def absent(self):
        """What an optional array is where the file holds none, as Stored; None for an array that must be there."""
        if self.pattern is None:
            return None
        found = REGISTRY[self.layer.class_name].absent(self.layer.config, self.role)
        return None if found is None else Stored(*found)


def slots(layer, trainable, path=(), names=()):
    """All slots of a layer and of those inside it, in the order in which Keras creates the weights."""
    path = (*path, layer.name)
    found, patterns = [], names_in_file(layer.class_name, layer.config)
    for role, tensor in layer.weights.items():
        learned = trainable.get(path, True) and role not in _NON_TRAINABLE
        learned = learned and not (layer.class_name.startswith(PREFIXES) and role != "bias")
        found.append(Slot(layer, role, tensor, {layer.name, *names}, learned, set(path), patterns.get(role)))
    inner = layer.layers if layer.graph is None else layer.graph.layers
    for part in inner:
        found += slots(part, trainable, path, {layer.name} if layer.class_name in WRAPPERS else ())
    return found


def layers_with_weights(graph, trainable, stored, label):
    """(layer, its slots) of each layer of a graph that has arrays; FileFormatError for one that `stored` lacks."""
    for layer in graph.layers:
        if places := slots(layer, trainable):
            if layer.name not in stored:
                raise FileFormatError(f"{label}: no weights for layer {layer.name!r} ({layer.class_name})")
            yield layer, places


def _normal_name(name):
    """Split a variable's path and give (parts, role): 'bidirectional/forward_lstm/lstm_cell/kernel:0' and so on."""
    parts = name.split(":")[0].split("/")
    role = parts[-1]
    return set(parts[:-1]), role


def match(places, names, arrays, where):
    """Give every slot its array: by name if that is unique and complete, else by Keras' order.

    The arrays of a class of another package are known by their names alone.
    """
    contributed = names is not None and any(place.pattern for place in places)
    tensors = {}
    if contributed:
        for place in places:
            array = place.absent()
            if array is not None and not any(place.pattern.search(name) for name in names):
                tensors[place.tensor] = array
        places = [place for place in places if place.tensor not in tensors]
    if len(places) != len(arrays):
        raise FileFormatError(
            f"{where}: the file holds {len(arrays)} arrays for it, the architecture needs {len(places)}"
        )
    several = len({id(place.layer) for place in places}) > 1
    chosen = _match_names(places, names, several) if names is not None and (several or contributed) else None
    if chosen is None and contributed:
        raise FileFormatError(
            f"{where}: the file names its arrays {', '.join(names)}; the class that its options tell has other ones. "
            "If it is another class, describe it with fastbilstm.register_layer"
        )
    if chosen is None:
        order = [k for k, p in enumerate(places) if p.trainable] + [k for k, p in enumerate(places) if not p.trainable]
        chosen = {slot: array for array, slot in enumerate(order)}
    tensors |= {place.tensor: arrays[chosen[k]] for k, place in enumerate(places)}
    for place in places:
        convert_cudnn(place, tensors, where)
    return tensors


def _match_names(places, names, several):
    chosen = {}
    for number, name in enumerate(names):
        parts, role = _normal_name(name)
        fits = [k for k, p in enumerate(places) if (p.names & parts or not several) and _has_role(p, parts, role, name)]
        if len(fits) > 1 and all(places[k].pattern for k in fits):
            # Layers of one class inside the layer: in their order.
            fits = [k for k in fits if k not in chosen][:1]
        if len(fits) > 1:
            # Two layers have cells of one name: take the cell whose name contains most of its path.
            most = max(len(places[k].path & parts) for k in fits)
            fits = [k for k in fits if len(places[k].path & parts) == most]
        if len(fits) != 1 or fits[0] in chosen:
            return None
        chosen[fits[0]] = number
    return chosen


def _has_role(place, parts, role, name):
    """Whether a variable belongs to a slot; a role such as query/kernel also names a layer inside the layer."""
    if place.pattern is not None:
        return place.pattern.search(name)
    *inside, last = place.role.split("/")
    return set(inside) <= parts and re.fullmatch(last + r"(_\d+)?", role)


# Class -> number of gates, what converts the bias, and its shape for some units.
_CUDNN = {
    "LSTM": (4, legacy.cudnn_lstm_bias, lambda units: (4 * units,)),
    "GRU": (3, legacy.cudnn_gru_bias, lambda units: (2, 3 * units)),
}


def convert_cudnn(place, tensors, where):
    """Convert the weights of an LSTM or GRU, in place, if the size of the bias shows that CuDNN wrote them."""
    layer = place.layer
    if layer.class_name in ("GRU", "GRUCell") and place.role == "bias":
        _check_reset_after(layer, tensors[place.tensor].shape, where)
    if layer.class_name in _CUDNN and place.role == "bias":
        n_gates, convert_bias, shape_of_bias = _CUDNN[layer.class_name]
        units = layer.config["units"]
        names = [layer.weights[role] for role in ("kernel", "recurrent_kernel", "bias")]
        shape = tensors[names[2]].shape
        widths = {tensors[name].shape[-1:] for name in names[:2]}
        if shape == (2 * n_gates * units,) and widths == {(n_gates * units,)}:
            kernel, recurrent_kernel, bias = (tensors[name] for name in names)
            tensors[names[0]] = kernel.converted(lambda array: legacy.cudnn_kernel(array, n_gates))
            tensors[names[1]] = recurrent_kernel.converted(lambda array: legacy.cudnn_recurrent_kernel(array, n_gates))
            tensors[names[2]] = bias.converted(convert_bias, shape_of_bias(units))


def _check_reset_after(layer, shape, where):
    """Refuse the bias of a GRU that was written with another `reset_after` than the architecture says."""
    units, given = layer.config["units"], layer.config["reset_after"]
    after, before = ((2, 3 * units), (6 * units,)), ((3 * units,),)
    if shape in (before if given else after):
        raise FileFormatError(
            f"{where}: its architecture says reset_after={given}, the bias of shape {shape} in the file is of a "
            f"{layer.class_name} with reset_after={not given}"
        )
