"""One object inside several layers, such as a cell in two RNN: `.keras` and `.weights.h5` store its weights once.

Keras stores an object where it comes first, and leaves out the group of each later place. The architecture says which
object it was by its class, name and options; where two would fit, the file is refused. Knows no files.
"""

from ..errors import FileFormatError


def _without_weights(layer):
    return layer.replace(weights={}, layers=tuple(map(_without_weights, layer.layers)), ignored=())


def _names(layer):
    """The names of the arrays of a layer and of those inside it, in order."""
    return [name for _, part in layer.walk() for name in part.weights.values()]


def take_shared(left_out, graph, tensors, label):
    """Give each layer that has no group in the file the arrays of the one that it is.

    Parameters
    ----------
    left_out : list of Layer
        Layers inside others without a group.
    tensors : dict of str to Stored
        What was read; it takes the same arrays under the names of these layers, too.
    """
    every = [part for layer in graph.layers for path, part in layer.walk() if len(path) > 1]
    for layer in left_out:
        bare = _without_weights(layer)
        fits = [part for part in every if part is not layer and _without_weights(part) == bare]
        found = [names for names in map(_names, fits) if names and all(name in tensors for name in names)]
        if len({id(tensors[names[0]]) for names in found}) != 1:
            reason = "several layers have one of its name and options" if found else "no other layer has one like it"
            raise FileFormatError(
                f"{label}: no weights for layer {layer.name!r} ({layer.class_name}), which is inside another; {reason}"
            )
        for name, other in zip(_names(layer), found[0]):
            tensors[name] = tensors[other]


def merged(graph, tensors):
    """The graph in which arrays that are one object in `tensors` have one name, and the tensors without the others."""
    first, renamed = {}, {}
    for name, array in tensors.items():
        renamed[name] = first.setdefault(id(array), name)
    if len(first) == len(tensors):
        return graph, tensors
    return _renamed_graph(graph, renamed), {name: tensors[name] for name in first.values()}


def _renamed_graph(graph, renamed):
    return graph.replace(layers=tuple(_renamed(layer, renamed) for layer in graph.layers))


def _renamed(layer, renamed):
    return layer.replace(
        weights={role: renamed.get(name, name) for role, name in layer.weights.items()},
        layers=tuple(_renamed(part, renamed) for part in layer.layers),
        graph=layer.graph and _renamed_graph(layer.graph, renamed),
    )
