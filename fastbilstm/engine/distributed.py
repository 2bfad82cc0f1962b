"""TimeDistributed layers one after the other, as one TimeDistributed model: what is inside them is then fused, too.

Imports the descriptions of graphs and the specification. Knows nothing of kernels.
"""

import copy

from ..graph import Graph, Input, Node, Ref
from ..layers.functional import TimeDistributed


def join(builder, fuse):
    """Give the last call of each chain of a Builder what `fuse` makes of the whole chain, and remove the others."""
    chains = {}
    for call in builder.calls.values():
        if is_plain(builder, call):
            before = builder.producer(call)
            chains[call.number] = [*(chains.pop(before.number, ()) if before is not None else ()), call]
    for chain in chains.values():
        if len(chain) > 1:
            replace(builder, chain, fuse)


def is_plain(builder, call):
    """Whether a call gives each timestep of its one tensor to a layer, without masks."""
    plain = isinstance(call.layer, TimeDistributed) and call.plain and len(call.refs) == 1
    refs = (*call.refs, Ref(call.number))
    if not plain or builder.is_shared(call) or any(map(builder.is_masked, refs)):
        return False
    return not makes_mask(call.layer)


def makes_mask(layer):
    """Whether a mask may begin in a layer or inside it. In Keras 3 it ends with TimeDistributed."""
    begins = layer.config.get("mask_zero") or layer.class_name == "Masking"
    return bool(begins) or any(map(makes_mask, layer.inner))


def replace(builder, chain, fuse):
    wrapper = copy.copy(chain[-1].layer)
    network = fuse(model_of(builder, chain), builder.budget, builder.weights)
    wrapper.inner, wrapper.has_kernels = (network,), True
    for k, call in enumerate(chain[:-1]):
        builder.merge(call, chain[-1], network.labels.get(k, "vector"))
        builder.remove(call)
    chain[-1].runner = wrapper
    builder.labels[chain[-1].index] = network.labels.get(len(chain) - 1, "vector")
    builder.change(chain[-1], chain[-1].reading(chain[0].refs[0]), chain[-1].kwargs)


def model_of(builder, chain):
    """A Functional of the layers inside a chain, whose rows are timesteps."""
    outer = builder.network
    model = copy.copy(outer)
    model.inner = [call.layer.inner[0] for call in chain]
    specs = [builder.spec_of(Ref(call.number)) for call in chain]
    model.node_specs = [[spec._replace(shape=(None, *spec.shape[2:]))] for spec in specs]
    given = Input("timesteps", None, builder.dtype_of(chain[0].refs[0]).name)
    nodes = tuple(Node(k, (Ref(k),)) for k in range(len(chain)))
    layers = tuple(outer.graph.layers[call.index].layers[0] for call in chain)
    outer = outer.graph
    model.graph = Graph(outer.name, outer.keras, (given,), layers, nodes, (Ref(len(chain)),), ("y",), dtype=outer.dtype)
    return model
