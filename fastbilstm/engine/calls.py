"""What fusion.py works on: the nodes of a graph on their way to steps, who reads whom, the bytes that tables may take.

Imports the descriptions of graphs and the specification. Knows nothing of kernels.
"""

from collections import Counter

from ..graph import Ref, flatten_refs, map_refs
from ..layers.base import dtype_of
from .folding import EMBEDDING


class Budget:
    """Bytes that tables may take; `used` is reported by `summary()`."""

    def __init__(self, limit):
        self.limit, self.used = limit, 0

    def takes(self, nbytes):
        fits = self.used + nbytes <= self.limit
        self.used += nbytes if fits else 0
        return fits


class Call:
    """A node on its way to a step: its layer, its arguments with aliases resolved, what runs in place of the layer."""

    def __init__(self, number, layer, index, args, kwargs):
        self.number, self.layer, self.index, self.args, self.kwargs = number, layer, index, args, kwargs
        self.runner, self.folds, self.activation = None, [], None

    @property
    def plain(self):
        """Whether it is called with tensors alone: no masks, states or flags."""
        return len(self.args) == 1 and not any(self.kwargs.values()) and bool(self.refs)

    @property
    def is_lookup(self):
        """Whether it gives rows of an Embedding, and does nothing else."""
        return type(self.layer) in EMBEDDING and self.plain and len(self.refs) == 1

    @property
    def refs(self):
        """The tensors of the first argument; () if it is something else."""
        first = self.args[0] if self.args else None
        refs = tuple(first) if isinstance(first, (list, tuple)) else (first,)
        return refs if all(isinstance(ref, Ref) for ref in refs) else ()

    @property
    def read_numbers(self):
        """The numbers of the nodes it reads, one for each tensor."""
        return [ref.node for ref in flatten_refs((self.args, self.kwargs))]

    @property
    def reads(self):
        """The numbers of all nodes it reads."""
        return set(self.read_numbers)

    def reading(self, ref):
        """Its arguments with another tensor in place of the first one."""
        first = self.args[0]
        return ([ref, *first[1:]] if isinstance(first, (list, tuple)) else ref, *self.args[1:])


class Calls:
    """The calls of a Functional, without those of layers of which `does_nothing(layer)` is true.

    `calls` and `alias`: the calls that are left by number, and in place of what each other one gave, what is read now.
    `users` counts how often outputs of a node are read, by calls and as results; `callers` counts the calls of a layer,
    by its id. Who adds, changes or removes a call keeps them right. By the index of a layer in the graph, `labels` says
    what became of it, and `into` which other layers it went into.
    """

    def __init__(self, functional, does_nothing):
        self.network, graph = functional, functional.graph
        self.calls, self.alias, self.labels, self.into = {}, {}, {}, {}
        self.users, self.callers = Counter(), Counter()
        for number, node in enumerate(graph.nodes, start=len(graph.inputs)):
            layer = functional.inner[node.layer]
            args, kwargs = map_refs(self.resolve, node.args), map_refs(self.resolve, node.kwargs)
            call = Call(number, layer, node.layer, args, kwargs)
            if call.plain and does_nothing(layer):
                self.alias[Ref(number)] = call.refs[0]
                self.labels[node.layer] = "dropped"
            else:
                self.calls[number] = call
                self.callers[id(layer)] += 1
                self.users.update(call.read_numbers)
        self.users.update(self.resolve(ref).node for ref in graph.outputs)

    def merge(self, call, other, label):
        """Note that a call has gone into another one."""
        self.labels[call.index] = label
        self.into.setdefault(call.index, []).append(other.index)

    def resolve(self, ref):
        while ref in self.alias:
            ref = self.alias[ref]
        return ref

    def remove(self, call):
        del self.calls[call.number]
        self.callers[id(call.layer)] -= 1
        self.users.subtract(call.read_numbers)

    def change(self, call, args, kwargs):
        """Give a call other arguments."""
        self.users.subtract(call.read_numbers)
        call.args, call.kwargs = args, kwargs
        self.users.update(call.read_numbers)

    def producer(self, call):
        """The call whose only output is read by this one alone, as its first argument; None if there is none."""
        number = call.refs[0].node if call.refs else None
        if number not in self.calls or self.users[number] != 1:
            return None
        found = self.calls[number]
        # A mask given to that call ends with it if this one is given a mask of its own.
        masked = {name for name, value in found.kwargs.items() if value} == {"mask"} and call.kwargs.get("mask")
        return found if (found.plain or masked) and len(found.refs) == 1 else None

    def is_shared(self, call):
        return self.callers[id(call.layer)] > 1

    def rank(self, call):
        """Axes of what the call gives."""
        return len(self.spec_of(Ref(call.number)).shape)

    def is_input(self, ref):
        return ref.node < len(self.network.graph.inputs)

    def spec_of(self, ref):
        """What the graph says of a tensor: a Spec, or the Input that it is."""
        inputs = self.network.graph.inputs
        return inputs[ref.node] if self.is_input(ref) else self.network.node_specs[ref.node - len(inputs)][ref.tensor]

    def is_masked(self, ref):
        return not self.is_input(ref) and self.spec_of(ref).masked

    def dtype_of(self, ref):
        """The dtype of a tensor of the graph."""
        name = self.spec_of(ref).dtype
        if not self.is_input(ref):
            return dtype_of(name or "float32")
        return dtype_of("float32" if name.startswith(("float", "bfloat")) else name)

    def embedding_read_by(self, call):
        """The call of the Embedding that gives the first argument of a call, which alone calls its layer; or None."""
        embedding = self.calls.get(call.refs[0].node) if call.refs else None
        return embedding if embedding is not None and embedding.is_lookup and not self.is_shared(call) else None

    def drop_unread(self, results):
        """Forget calls that no result needs: an Embedding that went into what read it, say."""
        needed = {ref.node for ref in results}
        for number, call in reversed(list(self.calls.items())):
            if number in needed:
                needed |= call.reads
            else:
                del self.calls[number]
