# Checks of arrays before the first pointer is formed, included in _kernels.pyx and _recurrent.pyx after NumPy, as np.

_FLOAT32 = np.dtype(np.float32)


cdef str described(array):
    """An array for a message, with all that compiled code cannot take."""
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    flags = array.flags
    faults = (
        (not flags.c_contiguous, "not C-contiguous"), (not flags.aligned, "misaligned"),
        (not flags.writeable, "read-only"), (not array.dtype.isnative, "foreign byte order"),
    )
    return ", ".join([f"{array.dtype.name} {array.shape}"] + [fault for is_so, fault in faults if is_so])


cdef bint has_shape(array, tuple shape) except -1:
    """Whether an array has this shape (None: any size)."""
    cdef bint good = array.ndim == len(shape)
    if good:
        for size, expected in zip(array.shape, shape):
            good = good and (expected is None or size == expected)
    return good


cdef object checked(str what, array, tuple shape, bint written=False, dtype=_FLOAT32):
    """The array, if it is C-contiguous, aligned and of this shape (None: any size) and dtype."""
    if isinstance(array, np.ndarray) and array.dtype == dtype and has_shape(array, shape):
        flags = array.flags
        if flags.c_contiguous and flags.aligned and (flags.writeable or not written):
            return array
    raise ValueError(
        f"{what} must be a C-contiguous {'writable ' if written else ''}{dtype.name} array of shape {shape}, "
        f"got {described(array)}"
    )


cdef apart(str what, array, dict others):
    """Nothing that is read or written beside a written array may share its memory. The bounds decide: all these arrays
    are contiguous.
    """
    for name, other in others.items():
        if array is not None and other is not None and np.may_share_memory(array, other):
            raise ValueError(f"{what} and {name} share memory")
