"""MultiHeadAttention of Keras 3.8 and later removes the masks of its input tensors for all later layers.

A layer that reads the same tensor later finds no mask, so its output depends on the order of the calls. This file puts
the calls of the graph into Keras' order, and a `ForgetMask` before each later reader. Masks that are given in the calls
(mask=...) do not change. Source: keras 3.15, MultiHeadAttention.call and
ops/function.py (map_graph). Knows no files and no arrays.
"""

from .. import layers as specification
from ..graph import Layer, Node, Ref, flatten_refs, map_refs
from ..layers.core import Identity, Unchanged

TAKES_MASKS_OFF = "MultiHeadAttention"
_FIRST = (3, 8)


def applies(graph):
    if not graph.keras.is_keras3 or graph.keras.version < _FIRST:
        return False
    return any(layer.class_name == TAKES_MASKS_OFF for _, layer in graph.walk())


def parents(node):
    """The tensors that a call reads, in the order of Keras: keyword arguments are sorted by name."""
    return flatten_refs((node.args, [node.kwargs[name] for name in sorted(node.kwargs)]))


def keras_order(graph):
    """The numbers of the calls in the order in which Keras 3 makes them: by depth, counted from the outputs."""
    count = len(graph.inputs)
    reads = {count + k: [ref.node for ref in parents(node)] for k, node in enumerate(graph.nodes)}
    outputs = list(graph.outputs)
    if (keys := graph.output_keys) is not None:
        # Keras flattens a dict by its sorted keys.
        outputs = [ref for _, ref in sorted(zip(keys, outputs), key=lambda pair: pair[0])]
    post_order, done = [], set()
    stack = [(ref.node, False) for ref in reversed(outputs)]
    while stack:
        number, ready = stack.pop()
        if number in done:
            continue
        if ready:
            done.add(number)
            post_order.append(number)
        else:
            stack.append((number, True))
            stack += [(parent, False) for parent in reversed(reads.get(number, ())) if parent not in done]
    depths, layer_depths = {}, {}
    for number in reversed(post_order):
        layer = graph.nodes[number - count].layer if number >= count else ("input", number)
        depth = max(depths.setdefault(number, 0), layer_depths.get(layer, 0))
        depths[number] = layer_depths[layer] = depth
        for parent in reads.get(number, ()):
            depths[parent] = max(depth + 1, depths.get(parent, 0))
    by_depth = {}
    for number, depth in depths.items():
        by_depth.setdefault(depth, []).append(number)
    return [n for depth in sorted(by_depth, reverse=True) for n in by_depth[depth] if n >= count]


class _Walk:
    """Finds which tensors are the same object in Keras, and which of them have lost their mask."""

    def __init__(self, graph, inside):
        self.graph, self.count = graph, len(graph.inputs)
        self.root, self.lost = {}, set()
        # Tensors that may have a mask.
        self.masked = {number for number in range(self.count) if inside}
        self.bare, self.layers, self.nodes = {}, list(graph.layers), []
        self.taken = {layer.name for layer in graph.layers}
        self.new_number = {number: number for number in range(self.count)}

    def object_of(self, ref):
        return self.root.get((ref.node, ref.tensor), (ref.node, ref.tensor))

    def current(self, ref):
        """The tensor that a later reader gets, by its new number."""
        known = self.object_of(ref)
        if known not in self.lost or known[0] not in self.masked:
            return Ref(self.new_number[ref.node], ref.tensor)
        if known not in self.bare:
            source = Ref(self.new_number[ref.node], ref.tensor)
            self.layers.append(Layer(self.name_for(ref), "ForgetMask"))
            self.nodes.append(Node(len(self.layers) - 1, (source,)))
            self.bare[known] = Ref(self.count + len(self.nodes) - 1)
        return self.bare[known]

    def name_for(self, ref):
        number = ref.node - self.count
        named = self.graph.inputs[ref.node] if number < 0 else self.graph.layers[self.graph.nodes[number].layer]
        name = f"{named.name}_without_mask"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def visit(self, number):
        node = self.graph.nodes[number - self.count]
        layer = self.graph.layers[node.layer]
        if layer.class_name.startswith("ops."):  # operations read no masks
            function = lambda ref: Ref(self.new_number[ref.node], ref.tensor)  # noqa: E731
        else:
            function = self.current
            given_masks = flatten_refs(node.kwargs.get("mask"))
            if given_masks or _makes_masks(layer) or any(ref.node in self.masked for ref in parents(node)):
                self.masked.add(number)
        args = map_refs(function, node.args)
        kwargs = map_refs(lambda ref: Ref(self.new_number[ref.node], ref.tensor), node.kwargs)
        self.nodes.append(Node(node.layer, args, kwargs))
        self.new_number[number] = self.count + len(self.nodes) - 1
        given = flatten_refs(node.args)
        if layer.class_name == TAKES_MASKS_OFF:
            self.lost |= {self.object_of(ref) for ref in given}
        elif layer.graph is not None:
            for ref in given if flatten_refs(node.kwargs.get("mask")) else ():
                self.lost.discard(self.object_of(ref))
            lost, same = effects(layer.graph)
            self.lost |= {self.object_of(ref) for k, ref in enumerate(given) if k in lost}
            for tensor, k in same.items():
                self.root[(number, tensor)] = self.object_of(given[k])
        elif given and _gives_its_input(layer):
            self.root[(number, 0)] = self.object_of(given[0])


def _makes_masks(layer):
    parts = [part for _, part in layer.walk()]
    return any(part.class_name == "Masking" or (part.config or {}).get("mask_zero") for part in parts)


def _gives_its_input(layer):
    """Whether Keras returns the same object that the layer was called with."""
    if layer.class_name == "Activation":
        return layer.config.get("activation") in (None, "linear")
    return issubclass(specification.REGISTRY.get(layer.class_name, object), (Identity, Unchanged))


def _walked(graph, inside):
    walk = _Walk(graph, inside)
    for number in keras_order(graph):
        walk.visit(number)
    return walk


def effects(graph):
    """What a model does to its inputs: (inputs whose masks it removes, {output: the input that it returns})."""
    walk = _walked(graph, True)
    lost = {number for number, tensor in walk.lost if number < walk.count}
    roots = [walk.object_of(ref) for ref in graph.outputs]
    return lost, {k: number for k, (number, _) in enumerate(roots) if number < walk.count}


def forget_masks(graph, inside):
    """The graph with its calls in Keras' order, and a ForgetMask wherever Keras has removed a mask.

    `inside`: the graph is a model inside another, so its inputs may have masks.
    """
    if not applies(graph):
        return graph
    walk = _walked(graph, inside)
    outputs = tuple(walk.current(ref) for ref in graph.outputs)
    return graph.replace(layers=tuple(walk.layers), nodes=tuple(walk.nodes), outputs=outputs)
