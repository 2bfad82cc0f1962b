"""The types and option codes that the compiled modules share.

A header of declarations only: it compiles into each extension that cimports it. The codes of the activations are in
`fbl_activations.h`; these are part of the contract in `fastbilstm/_recurrent.pyi`, too.
"""

ctypedef fused floating:
    float
    double

cdef enum MaskedOutput:
    REPEAT_LAST = 0       # the previous emitted output, zero before the first unmasked step
    EMIT_ZEROS = 1
    EMIT_STATE = 2        # the state h
    MASKED_OUTPUT_COUNT = 3
