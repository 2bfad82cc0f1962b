# Which kernels for narrow weights are in use, and how these are packed, included in _kernels.pyx. See fbl_narrow.h.

cdef str _dots = None
# Larger sums of products of codes could leave 32 bits.
cdef Py_ssize_t MOST_UNITS = 2**16
# By the dtype of codes: the form, and the k that lie beside each other.
_FORMS = {
    np.dtype(np.int8): ("int8", FBL_INT8, 4),
    np.dtype(np.uint16): ("bfloat16", FBL_BFLOAT16, 2),
    np.dtype(np.float16): ("float16", FBL_FLOAT16, 2),
}


def dots(usable=True):
    """Names of the kinds of products that this build has for narrow weights beside the instruction set in use, best first;
    with `usable` those that run here.
    """
    cdef Py_ssize_t k
    names = []
    for k in range(fbl_narrow_table_count):
        if fbl_narrow_tables[k].table == _table and (not usable or fbl_narrow_usable(fbl_narrow_tables[k])):
            names.append(fbl_narrow_tables[k].isa.decode())
    return names


def use_dots(str name=None):
    """Take the products of this kind where narrow weights are packed from now on (a hook for tests and benches); None: the
    best ones.

    Raises
    ------
    ValueError
        If there are none for the instruction set in use, or they do not run on this CPU.
    """
    global _dots
    if name is not None and name not in dots():
        raise ValueError(f"products {name!r}; expected one of {', '.join(dots())}")
    _dots = name


cdef const fbl_narrow* narrow_in_use(const fbl_kernels* table) except? NULL:
    """The kernels for narrow weights beside a table; NULL: none."""
    cdef Py_ssize_t k
    for k in range(fbl_narrow_table_count):
        if fbl_narrow_tables[k].table == table and fbl_narrow_usable(fbl_narrow_tables[k]):
            if _dots is None or fbl_narrow_tables[k].isa == _dots.encode():
                return fbl_narrow_tables[k]
    return NULL


cdef tuple pack_int8(codes, scale, Py_ssize_t wide, const fbl_narrow* table):
    """(packed codes, scales, zeros) of codes (K, N) int8 and scale (1, N), in blocks of `wide` columns."""
    packed = pack_narrow(codes, wide, 4)
    size = packed.shape[0] * wide
    scales, zeros = aligned((size,)), aligned((size,), np.int32)
    scales[...] = 0
    scales[:codes.shape[1]] = matrix_of("scale", scale, (1, codes.shape[1]))[0].astype(np.float32) / np.float32(127)
    zeros[...] = -table.byte_of_zero * packed.sum((1, 3), dtype=np.int32).ravel()
    return packed, scales, zeros


cdef fbl_codes codes_at(tuple packed):
    """What pack_int8 gives, or codes alone, as the kernels read it."""
    cdef fbl_codes at
    at.codes, at.scales, at.zeros = floats(packed[0]), NULL, NULL
    if len(packed) > 1:
        at.scales, at.zeros = floats(packed[1]), <const int*> floats(packed[2])
    return at


cdef pack_narrow(codes, Py_ssize_t wide, Py_ssize_t beside):
    """Codes (K, N) as blocks of `wide` columns, each [k / beside][column][beside of k]."""
    depth, columns = codes.shape
    groups, blocks = -(-depth // beside), -(-columns // wide)
    padded = np.zeros((groups * beside, blocks * wide), codes.dtype)
    padded[:depth, :columns] = codes
    packed = aligned((blocks, groups, wide, beside), codes.dtype)
    packed[...] = padded.reshape(groups, beside, blocks, wide).transpose(2, 0, 3, 1)
    return packed


cdef padded_to(row, Py_ssize_t size):
    """A row, with zeros behind it, at an aligned place."""
    found = aligned((size,), row.dtype)
    found[:len(row)], found[len(row):] = row, 0
    return found
