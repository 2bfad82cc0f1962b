# Which instruction set is in use, included in _kernels.pyx and _recurrent.pyx. They name what they choose from: `Table`, a
# struct of functions with its `isa`, `tables` of `table_count`, best first, and `is_usable`.

cdef const Table* _table = NULL


def isas(usable=True):
    """Names of the instruction sets this build has functions for, best first; with `usable` those that run here."""
    return [tables[k].isa.decode() for k in range(table_count) if not usable or is_usable(tables[k])]


def use(name):
    """Take the functions of another instruction set from now on (a hook for tests and benches).

    Raises
    ------
    ValueError
        If this build has no such functions or they do not run on this CPU.
    """
    global _table
    for k in range(table_count):
        if tables[k].isa.decode() == name and is_usable(tables[k]):
            _table = tables[k]
            return
    raise ValueError(f"instruction set {name!r} (FASTBILSTM_ISA); expected one of {', '.join(isas())}")
