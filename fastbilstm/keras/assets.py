"""Vocabularies that a .keras archive holds as files -> the config of their layers.

TextVectorization, StringLookup and IntegerLookup store the vocabulary they learned in adapt() as
assets/layers/<class>[_n]/vocabulary.txt, one token a line; tf.keras 2.12 to 2.14 name the folder otherwise. Knows no
archives: takes the contents of the files by path.
"""

from ..errors import FileFormatError, UnsupportedLayerError
from .backslashes import CONTAINERS
from .object_paths import snake_case

_LOOKUPS = ("TextVectorization", "StringLookup", "IntegerLookup")


def with_vocabularies(graph, class_names, contents, label):
    """The graph with a vocabulary in the config of every lookup layer.

    Parameters
    ----------
    graph : Graph
    class_names : dict
        Keras' class names of all layers of the model by name and in order; see weights.read_paths.
    contents : dict of str to bytes
        By the path below assets/.

    Raises
    ------
    UnsupportedLayerError
        If a layer has no vocabulary: an .h5 file does not hold what adapt() learned.
    """
    lost = []
    filled = _fill(graph, class_names, contents, "", label, lost)
    if lost:
        raise UnsupportedLayerError(
            [f"layer {name!r} ({kind}): option vocabulary=None: it is not in the file" for name, kind in lost], label
        )
    return filled


def _fill(graph, class_names, contents, folder, label, lost):
    container = next((c for c in CONTAINERS if any(path.startswith(f"{folder}{c}/") for path in contents)), "")
    step = 2 if container.startswith("_") else 1  # see weights.read_paths
    paths, counters = {}, {}
    for name, kind in class_names.items():
        snake = snake_case(kind[0] if isinstance(kind, tuple) else kind)
        number = counters.get(snake, 0)
        paths[name] = f"{folder}{container}/{snake}" + (f"_{number}" if number else "")
        is_there = any(path == paths[name] or path.startswith(f"{paths[name]}/") for path in contents)
        counters[snake] = number + (step if is_there else 1)
    layers = []
    for layer in graph.layers:
        path, kind = paths.get(layer.name, ""), class_names.get(layer.name)
        if layer.graph is not None and isinstance(kind, tuple):
            layer = layer.replace(graph=_fill(layer.graph, kind[1], contents, f"{path}/", label, lost))
        elif layer.class_name in _LOOKUPS and layer.config.get("vocabulary") is None:
            if path in contents:
                where = f"{label}: the vocabulary of layer {layer.name!r}"
                tokens = _tokens(contents[path], layer, where)
                layer = layer.replace(config={**layer.config, "vocabulary": tokens})
            else:
                lost.append((layer.name, layer.class_name))
        layers.append(layer)
    return graph.replace(layers=tuple(layers))


def _tokens(content, layer, where):
    """The lines of a vocabulary.txt, as Keras reads them back."""
    try:
        text = content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{where} is no UTF-8 text ({error})") from error
    lines = text.split("\n")
    if [*text.splitlines(), *[""] * text.endswith("\n")] != lines and text:
        raise FileFormatError(f"{where} holds a token with a line break in it; Keras itself does not read it back")
    if layer.class_name != "IntegerLookup":
        return lines
    try:
        return [int(line) for line in lines]
    except ValueError as error:
        raise FileFormatError(f"{where} holds something else than whole numbers ({error})") from error
