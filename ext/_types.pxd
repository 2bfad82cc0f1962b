"""The types and option codes that the kernels share.

A header of declarations only: it compiles into each extension that cimports it. The codes are part of the contract in
`fastbilstm/_recurrent.pyi`; `fastbilstm/activations.py` maps Keras' names to them.
"""

ctypedef fused floating:
    float
    double

cdef enum Activation:
    LINEAR = 0
    TANH = 1
    SIGMOID = 2
    RELU = 3
    HARD_SIGMOID_02 = 4   # clip(0.2x + 0.5, 0, 1): Keras 1, Keras 2 and tf.keras
    HARD_SIGMOID_6 = 5    # relu6(x + 3) / 6: Keras 3
    ELU = 6
    SOFTSIGN = 7
    EXPONENTIAL = 8
    SOFTPLUS = 9
    ACTIVATION_COUNT = 10

cdef enum MaskedOutput:
    REPEAT_LAST = 0       # the previous emitted output, zero before the first unmasked step
    EMIT_ZEROS = 1
    EMIT_STATE = 2        # the state h
    MASKED_OUTPUT_COUNT = 3
