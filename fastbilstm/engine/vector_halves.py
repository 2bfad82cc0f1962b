"""Bidirectional over an RNN of StackedRNNCells: each half runs on kernels by itself, then both are merged on kernels.

Imports NumPy and the compiled module `_kernels`; knows nothing of files.
"""

import numpy as np

from ..layers.recurrent import Bidirectional
from .folding import has_kernels, has_stack_kernels
from .vector_elementwise import average, each, joined_along, moved
from .vector_layers import adopt, contiguous
from .vector_recurrent import VectorStacked, recurrent


def halves_have_kernels(layer):
    """Whether each half of a Bidirectional layer has kernels, one at least over StackedRNNCells."""
    return all(has_kernels(part) or has_stack_kernels(part) for part in layer.inner)


class VectorHalves(Bidirectional):
    def __init__(self, layer, weights="float32"):
        adopt(self, layer)
        made = (
            VectorStacked(part, weights) if has_stack_kernels(part) else recurrent(part, weights=weights)
            for part in layer.inner
        )
        self.forward, self.backward = self.inner = tuple(made)

    @property
    def directions(self):
        return tuple(part for half in self.inner for part in half.directions)

    def joined(self, y, y_reverse, states):
        y, y_reverse = contiguous(y), contiguous(y_reverse)
        if self.forward.return_sequences:
            view = np.flip(y_reverse, 0 if self.forward.time_major else 1)
            y_reverse = moved(states, y_reverse, view.shape, view)
        if self.merge_mode is None:
            return [y, y_reverse]
        if self.merge_mode == "concat":
            return [joined_along(-1, [y, y_reverse], [None, None], states)]
        if self.merge_mode == "ave":
            return [average(states, [y, y_reverse], [None, None])]
        return [each(states, {"sum": "add", "mul": "multiply"}[self.merge_mode], y, y_reverse)]
