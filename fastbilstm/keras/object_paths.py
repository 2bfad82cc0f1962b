"""The arrays of a layer in `.weights.h5`, inside `.keras`, too: at object paths, /layers/<class>[_n]/.../vars/0, 1, ...

Nothing is read here, as in weights.py.
"""

import re

from ..errors import FileFormatError
from ..layers import REGISTRY
from .backslashes import CONTAINERS
from .hdf5 import attribute, child, find_array, is_group
from .nodes import CONV_LSTM, WRAPPERS
from .shared_objects import take_shared
from .weights import convert_cudnn, layers_with_weights, slots

# So many layers inside each other are looked through for arrays.
_DEEPEST = 8
# Classes that have another name in object paths.
_PATH_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}


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
    for layer, _ in layers_with_weights(graph, trainable, by_layer, label):
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
