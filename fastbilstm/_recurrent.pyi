"""Contract of the compiled LSTM time loop, `ext/_recurrent.pyx`. It needs SciPy (extra `blas`) to be imported."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Float = TypeVar("_Float", np.float32, np.float64)

def lstm_loop(
    x_proj: NDArray[_Float],
    recurrent_kernel: NDArray[_Float],
    h: NDArray[_Float],
    c: NDArray[_Float],
    mask: NDArray[np.uint8] | None,
    outputs: NDArray[_Float] | None,
    last_output: NDArray[_Float],
    activation: int,
    recurrent_activation: int,
    masked_output: int,
    reverse: bool,
) -> None: ...
