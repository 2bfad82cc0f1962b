"""The arrays of a file -> the weights of a Graph: by name if names are unique, else in the order of Keras.

Two layouts: the HDF5 groups of whole-model and weights-only files (Keras 1 to 3), and the object paths of
`.weights.h5` (inside `.keras`, too). Nothing is read here: an array is Stored, and the reader compares all shapes with
the graph first.
"""

import re

from ..errors import FileFormatError
from ..layers import REGISTRY, names_in_file
from ..layers.quantized import PREFIXES
from . import legacy
from .backslashes import CONTAINERS
from .hdf5 import Stored, attribute, child, find_array, is_group, name_list
from .nodes import CONV_LSTM, WRAPPERS
from .shared_objects import take_shared

# Where SpectralNormalization begins to look for the largest singular value in training.
_VECTOR_U = re.compile(r"(.*/)?vector_u(_\d+)?(:0)?")
_NON_TRAINABLE = {"moving_mean", "moving_variance", "mean", "variance", "count"}
_NON_TRAINABLE |= {"moving_stddev", "renorm_mean", "renorm_stddev"}
# So many layers inside each other are looked through for arrays.
_DEEPEST = 8
# Classes that have another name in object paths.
_PATH_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}


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


# ---- groups by layer (whole-model and weights-only .h5) -------------------------------------------------------------


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


def arrays_in_groups(container, layer_name, label):
    """[(role, shape)] of the arrays that the layout with one group for each layer holds for one of them."""
    group = child(container, layer_name, "group", label)
    found = []
    for name in name_list(group, "weight_names"):
        path = name.split(":")[0].removeprefix(f"{layer_name}/").replace("/", "_")
        found.append((path.removeprefix(f"{layer_name}_"), find_array(group, name, label).shape))
    return found


# ---- object paths (.weights.h5) -------------------------------------------------------------------------------------


def snake_case(name):
    """Keras' name of a class in object paths: LSTM -> lstm, TimeDistributed -> time_distributed."""
    name = re.sub(r"\W+", "", name.rsplit(">", 1)[-1])
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def read_paths(root, graph, trainable, label, class_names, notes=None):
    """Read the layout of `.weights.h5`: /layers/<class>[_n]/.../vars/0, 1, ...

    `class_names` are Keras' class names of all layers of the model, by name and in order: the counter in a path runs
    over the layers of one class. A nested model is given as (class name, {its layers}). `notes`, a list, takes how
    weights were paired with layers.
    """
    tensors, left_out = {}, []
    by_layer = _layer_groups(root, class_names, label, notes)
    for layer in graph.layers:
        places = slots(layer, trainable)
        if not places:
            continue
        if layer.name not in by_layer:
            raise FileFormatError(f"{label}: no weights for layer {layer.name!r} ({layer.class_name})")
        inner = class_names.get(layer.name)
        _read_object(by_layer[layer.name], layer, inner, trainable, label, tensors, left_out)
    take_shared(left_out, graph, tensors, label)
    return tensors


def _layer_groups(root, class_names, label, notes=None):
    """Find the group below /layers of each layer: by the names stored in the groups, if all of them are names of
    layers, else by class and number.
    """
    for container in CONTAINERS:
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
    if not stored.keys() <= class_names.keys():
        stored = {}  # names of another run of Keras
    if notes is not None:
        notes.append(f"weights are paired with layers by {'name' if stored else 'class and number'}")
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


def _read_object(group, layer, class_name, trainable, label, tensors, left_out):
    where = f"{label}: layer {layer.name!r} ({layer.class_name})"
    if layer.graph is not None:
        inner = class_name[1] if isinstance(class_name, tuple) else {}
        for part, part_group in _layer_groups(group, inner, label).items():
            target = next((item for item in layer.graph.layers if item.name == part), None)
            if target is not None and slots(target, trainable):
                _read_object(part_group, target, inner.get(part), trainable, label, tensors, left_out)
        return
    if layer.layers:
        inner = class_name[1] if isinstance(class_name, tuple) else {}
        for part, attribute_name in zip(layer.layers, _inner_groups(layer)):
            # A cell object that stands twice in a stack is stored once.
            stored = bool(part.weights) and all(name in tensors for name in part.weights.values())
            if not slots(part, trainable) or stored:
                continue
            if attribute_name.partition("/")[0] not in group:
                left_out.append(part)
                continue
            part_group = child(group, attribute_name, "group", label)
            _read_object(part_group, part, inner.get(part.name), trainable, label, tensors, left_out)
        return
    if any("/" in role for role in layer.weights):
        if all(role.rpartition("/")[2].isdigit() for role in layer.weights if "/" in role):
            _read_inside(group, slots(layer, trainable), where, label, tensors)
        else:
            _read_parts(group, layer, label, tensors)
        return
    if list(layer.weights) == ["idf_weights"]:
        tensors[layer.weights["idf_weights"]] = find_array(child(group, "vars", "group", label), "idf_weights", label)
        return
    # CuDNN layers have no cell.
    has_cell = layer.class_name in ("LSTM", "GRU", "SimpleRNN", *CONV_LSTM) and is_group(group, "cell")
    holder = child(group, "cell/vars" if has_cell else "vars", "group", label)
    places = slots(layer, trainable)
    if len(holder) != len(places):
        raise FileFormatError(f"{where}: the file holds {len(holder)} arrays for it, it needs {len(places)}")
    for number, place in enumerate(places):
        tensors[place.tensor] = find_array(holder, str(number), label)
    for place in places:
        convert_cudnn(place, tensors, where)


def arrays_in_paths(root, layer_name, class_names, label):
    """[(role, shape)] of the arrays that `.weights.h5` holds for a layer, also for layers inside ("attribute/0")."""
    group = _layer_groups(root, class_names, label).get(layer_name)
    return [] if group is None else list(_arrays_below(group, (), label))


def _arrays_below(group, path, label):
    for name in sorted(group):
        if name == "vars" and is_group(group, name):
            holder = child(group, name, "group", label)
            for index in sorted(holder, key=lambda text: (len(text), text)):
                role = "/".join((*path, index)) if path else f"w{index}"
                yield role, find_array(holder, index, label).shape
        elif is_group(group, name) and len(path) < _DEEPEST:
            yield from _arrays_below(child(group, name, "group", label), (*path, name), label)


def _inner_groups(layer):
    """The groups of the layers inside a wrapper; cells of StackedRNNCells are numbered by class."""
    fixed = {
        **dict.fromkeys(WRAPPERS, ("layer",)),
        "Bidirectional": ("forward_layer", "backward_layer"),
        "RNN": ("cell",),
    }
    if layer.class_name in fixed:
        return fixed[layer.class_name]
    names, counters = [], {}
    for cell in layer.layers:
        snake = snake_case(cell.class_name)
        number = counters.get(snake, 0)
        counters[snake] = number + 1
        names.append(f"cells/{snake}_{number}" if number else f"cells/{snake}")
    return names


def _read_inside(group, places, where, label, tensors):
    """The arrays of a registered layer that has layers inside it: role "attribute/1" is array 1 of `attribute`."""
    by_path = {}
    for place in places:
        path = place.role.rpartition("/")[0]
        if place.pattern is not None and path and not _holds_arrays(group, path, label):
            path = REGISTRY[place.layer.class_name].other_path(path)
        array = place.absent()
        if array is not None and not _holds_arrays(group, path, label):
            tensors[place.tensor] = array
            continue
        by_path.setdefault(f"{path}/vars" if path else "vars", []).append(place)
    for path, parts in by_path.items():
        holder = child(group, path, "group", label)
        if len(holder) != len(parts):
            raise FileFormatError(f"{where}: the file holds {len(holder)} arrays in {path}, it needs {len(parts)}")
        for number, place in enumerate(parts):
            index = str(number) if path == "vars" else place.role.rpartition("/")[2]
            tensors[place.tensor] = find_array(holder, index, label)


def _holds_arrays(group, path, label):
    try:
        return len(child(group, f"{path}/vars", "group", label)) > 0
    except FileFormatError:
        return False


def _read_parts(group, layer, label, tensors):
    """A layer made of Dense layers, such as MultiHeadAttention: query/kernel is array 0 of query_dense/vars."""
    numbers = {}
    for role, tensor in layer.weights.items():
        part = role.split("/")[0].removeprefix("attention_")
        public, number = f"{part}_dense", numbers.get(part, 0)
        numbers[part] = number + 1
        name = public if is_group(group, public) else f"_{public}"
        tensors[tensor] = find_array(child(group, f"{name}/vars", "group", label), str(number), label)
