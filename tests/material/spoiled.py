"""Ways to spoil an array that compiled code is given: another kind, shape, layout or dtype. Imports NumPy only."""

import numpy as np


def misaligned(array):
    buffer = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view = buffer.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array):
    view = array.copy()
    view.flags.writeable = False
    return view


WAYS = {
    "list": lambda a: a.tolist(),
    "none": lambda a: None,
    "other dtype": lambda a: a.astype(np.float64 if a.dtype != np.float64 else np.float32),
    "unsigned": lambda a: a.astype(np.uint32),
    "integers": lambda a: np.zeros(a.shape, np.int64),
    "byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "one row more": lambda a: np.concatenate([a, a[:1]]),
    "one row less": lambda a: a[1:],
    "one column more": lambda a: np.concatenate([a, a[..., :1]], axis=-1),
    "one column less": lambda a: np.ascontiguousarray(a[..., :-1]),
    "one axis less": lambda a: a[0],
    "one axis more": lambda a: a[None],
    "no axes": lambda a: np.zeros((), a.dtype),
    "Fortran order": lambda a: np.asfortranarray(a),
    "every other element": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "misaligned": misaligned,
}
