"""Contract of the BLAS backend's compiled part, `ext/_recurrent.pyx`. It needs SciPy (extra `blas`) to be imported."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Float = TypeVar("_Float", np.float32, np.float64)
_Activation = tuple[int, tuple[float, float, float]]  # as activations.kernel_code makes it

def isas(usable: bool = True) -> list[str]: ...
def use(name: str) -> None: ...
def lstm_loop(
    x_proj: NDArray[_Float],
    recurrent_kernel: NDArray[_Float],
    h: NDArray[_Float],
    c: NDArray[_Float],
    mask: NDArray[np.uint8] | None,
    outputs: NDArray[_Float] | None,
    last_output: NDArray[_Float],
    activation: _Activation,
    recurrent_activation: _Activation,
    masked_output: int,
    reverse: bool,
) -> None: ...
def matmul(a: NDArray[_Float], b: NDArray[_Float], bias: NDArray[_Float] | None, out: NDArray[_Float]) -> None: ...
def activate(x: NDArray[_Float], activation: _Activation) -> None: ...
