"""An Embedding or a RepeatVector and the layer on kernels after it, in one: what is between them is never computed.

Imports NumPy and the compiled module `_kernels`; knows nothing of files.
"""

import numpy as np

from .. import _kernels
from ..layers import Tensor
from ..layers.core import Embedding, check_ids, own_ids
from .pending_table import PendingTable
from .vector_layers import adopt, contiguous
from .vector_recurrent import Joined


class VectorEmbedded(Embedding):
    """An Embedding and the recurrent, Bidirectional or convolutional layer after it, in one; reads token ids.

    With `project`, the table of embeddings is multiplied by the kernel once that pays (`PendingTable`). The outputs
    have the same bits.
    `joined`: how many sequences of floats follow the ids, which a Concatenate joins to the embeddings.
    """

    n_inputs = None

    def __init__(self, embedding, layer, project, joined=0):
        adopt(self, embedding)
        self.layer, self.joined = layer, joined
        self.pending_table = PendingTable(self.input_dim) if project else None

    @property
    def work(self):
        return self.layer.work

    @property
    def directions(self):
        return getattr(self.layer, "directions", ())  # a convolution has none

    def call(self, inputs, kwargs, states):
        return self.checked(self.layer.call, inputs, kwargs, states)

    def start_call(self, inputs, kwargs, states):
        return self.checked(self.layer.start_call, inputs, kwargs, states)

    def checked(self, function, inputs, kwargs, states):
        """Give token ids and their mask to the layer."""
        ids, mask = own_ids(inputs[0].value), inputs[0].mask
        if not kwargs.get("mask"):
            # The mask is made from the ids as given, as in Embedding.
            mask = _kernels.mask_of(ids) if self.mask_zero else None
        if ids.dtype != np.int32:
            ids = check_ids(ids, self.input_dim, f"layer {self.name!r} (Embedding): the token id").astype(np.int32)
        if self.pending_table is not None:
            self.pending_table.read(ids.size, self.layer.project)
        try:
            if self.joined:
                floats, inputs = (
                    [contiguous(tensor.value) for tensor in inputs[1 : 1 + self.joined]],
                    inputs[self.joined :],
                )
                if any(x.shape[:2] != ids.shape for x in floats):
                    raise ValueError(f"ids of shape {ids.shape} beside {[x.shape for x in floats]}")
                ids = Joined(ids, floats[0] if len(floats) == 1 else self.join(floats, states))
            return function([Tensor(ids, mask), *inputs[1:]], kwargs, states)
        except ValueError:
            check_ids(ids, self.input_dim, f"layer {self.name!r} (Embedding): the token id")
            raise

    def join(self, floats, states):
        y = states.array(*floats[0].shape[:2], sum(x.shape[2] for x in floats))
        return _kernels.concatenate(floats, y)


class VectorRepeated:
    """A RepeatVector and the recurrent or Bidirectional layer after it: a row is projected once for all timesteps."""

    n_inputs, has_kernels = None, True

    def __init__(self, repeat, layer):
        self.n, self.name, self.layer = repeat.n, layer.name, layer

    @property
    def work(self):
        return self.layer.work

    @property
    def directions(self):
        return self.layer.directions

    def call(self, inputs, kwargs, states):
        x = contiguous(inputs[0].value)
        x = np.broadcast_to(x[:, np.newaxis], (len(x), self.n, x.shape[1]))
        return self.layer.call([Tensor(x), *inputs[1:]], kwargs, states)
