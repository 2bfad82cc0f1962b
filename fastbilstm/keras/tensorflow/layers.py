"""The variables of a checkpoint -> the weights of a Graph: by the tree of objects, or by the names that TF 1 gave.

A layer is found by where it stands in the tree, and an array by its attribute there (or, in layers of several parts, by
the name of its variable); never by its shape.
"""

import re

from ...errors import FileFormatError
from ..weights import layers_with_weights, match, slots
from .bundle import OBJECT_GRAPH
from .objects import Objects

_LAYER = re.compile(r"layer_with_weights-(\d+)")
# Attributes below which no weights of a layer lie, or the same ones again.
_ASIDE = {
    *("optimizer", "keras_api", "signatures", "variables", "trainable_variables", "non_trainable_variables"),
    *("regularization_losses", "state_spec", "input_spec", "states", "loss", "metrics", "_adapt_function"),
    *("_lookup_layer", "_index_lookup_layer", "lookup_table", "token_counts", "_default_save_signature"),
}
_VALUE = "VARIABLE_VALUE"
_MOST_DEEP = 40


def variables_of(bundle, objects, node):
    """[(name of the variable, its attribute, Stored)] of an object: in Keras' order where the tree tells it."""
    listed = objects.child(node, "variables")
    if listed is not None:
        numbers = sorted(objects.children(listed).items(), key=lambda item: int(item[0]) if item[0].isdigit() else -1)
        found = [("", number) for name, number in numbers if name.isdigit()]
    else:
        found = list(_below(objects, node, set(), 0))
    result = []
    for attribute, number in found:
        keys = objects.keys(number)
        if _VALUE not in keys:
            raise FileFormatError(f"{objects.where}: damaged (object {number} is no variable)")
        name, key = keys[_VALUE]
        result.append((name or key.split("/.ATTRIBUTES")[0], attribute, bundle.stored(key)))
    return result


def _below(objects, node, seen, depth):
    """(attribute, number) of each variable below an object, depth first, each once."""
    if depth > _MOST_DEEP:
        raise FileFormatError(f"{objects.where}: nested too deeply")
    for attribute, number in objects.children(node).items():
        if number in seen or attribute in _ASIDE:
            continue
        seen.add(number)
        if _VALUE in objects.keys(number):
            yield attribute, number
        else:
            yield from _below(objects, number, seen, depth + 1)


def read_layers(bundle, nodes, objects, graph, trainable, label):
    """{tensor: Stored} where `nodes` gives the object of each layer by its name."""
    tensors = {}
    for layer, places in layers_with_weights(graph, trainable, nodes, label):
        found = variables_of(bundle, objects, nodes[layer.name])
        tensors.update(_matched(places, found, f"{label}: layer {layer.name!r} ({layer.class_name})"))
    return tensors


def read_in_order(bundle, graph, trainable, label, notes):
    """{tensor: Stored} of a checkpoint whose tree numbers the layers with weights, as `save_weights` does."""
    wanted = [layer for layer in graph.layers if slots(layer, trainable)]
    if not wanted:
        return {}
    objects = Objects.of_checkpoint(bundle, OBJECT_GRAPH)
    numbered = {}
    for attribute, node in objects.children(0).items():
        if number := _LAYER.fullmatch(attribute):
            numbered[int(number[1])] = node
    if not numbered:
        named = ", ".join(name for name in objects.children(0) if name not in _ASIDE)[:200]
        raise FileFormatError(
            f"{label}: not a checkpoint of a Sequential or functional model: its layers are attributes ({named}), "
            "as of a subclassed model, whose architecture no file holds. Build the model in Keras, load_weights, and "
            "copy the weights into a functional model"
        )
    found = [numbered[number] for number in sorted(numbered)]
    found = [node for node in found if variables_of(bundle, objects, node)]
    if len(wanted) != len(found):
        raise FileFormatError(
            f"{label}: holds {len(found)} layers with weights, the architecture {len(wanted)} "
            f"({', '.join(layer.name for layer in wanted)[:200]})"
        )
    notes.append("weights are paired with layers by order, as in a TensorFlow checkpoint")
    nodes = {layer.name: node for layer, node in zip(wanted, found)}
    return read_layers(bundle, nodes, objects, graph, trainable, label)


def read_named(bundle, graph, trainable, label, notes):
    """{tensor: Stored} of a checkpoint of TensorFlow 1: a key is the name of a variable, the layer's name first."""
    tensors = {}
    for layer in graph.layers:
        places = slots(layer, trainable)
        if not places:
            continue
        where = f"{label}: layer {layer.name!r} ({layer.class_name})"
        roles = {place.role.rpartition("/")[2] for place in places}
        keys = [key for key in bundle.keys if layer.name in key.split("/")[:-1]]
        # Beside them lie an optimizer's: lstm/kernel/Adam, training/Adam/lstm/kernel/m.
        keys = [key for key in keys if key.rpartition("/")[2] in roles and not key.startswith("training/")]
        if not keys:
            raise FileFormatError(f"{where}: no weights; the checkpoint holds {', '.join(bundle.keys)[:200]}")
        tensors.update(_matched(places, [(key, key.rpartition("/")[2], bundle.stored(key)) for key in keys], where))
    notes.append("weights are paired with layers by name")
    return tensors


def _matched(places, found, where):
    """Each slot's array: of one layer by the attribute, of several by the names of the variables."""
    names, attributes, arrays = [name for name, _, _ in found], [a for _, a, _ in found], [s for _, _, s in found]
    roles = [place.role.rpartition("/")[2] for place in places]
    given = [attribute or name.split(":")[0].rpartition("/")[2] for attribute, name in zip(attributes, names)]
    one = len({id(place.layer) for place in places}) == 1
    if one and len(set(given)) == len(given) == len(places) and set(given) == set(roles):
        order = [given.index(role) for role in roles]
        # In the order in which Keras has them: learned ones first.
        rank = sorted(range(len(places)), key=lambda k: not places[k].trainable)
        return match(places, None, [arrays[order[k]] for k in rank], where)
    return match(places, names, arrays, where)
