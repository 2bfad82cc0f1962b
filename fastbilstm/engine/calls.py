"""What fusion.py works on: a node of the graph on its way to a step, and the bytes that tables may take."""

from ..graph import Ref, flatten_refs
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
    """A node on its way to a step: its layer, its arguments with aliases resolved, what replaces the layer."""

    def __init__(self, number, layer, index, args, kwargs):
        self.number, self.layer, self.index, self.args, self.kwargs = number, layer, index, args, kwargs
        self.engine, self.folds, self.activation = None, [], None

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
