"""Contract of the float32 engine's compiled part, `ext/_kernels.pyx`. Without GCC or Clang `isa()` is None there."""

from typing import Any, Final, Literal, TypedDict, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

_Floats = NDArray[np.float32]
_Mask = NDArray[np.bool_] | None

MERGES: Final[dict[str | None, int]]

class _Run(TypedDict):
    lstm: Lstm
    reverse: bool
    flip: bool
    initial_state: tuple[ArrayLike, ArrayLike] | None
    outputs: _Floats | None
    offset: int
    merge: int
    name: object

@final
class Activation:
    def __new__(cls, code: int, parameters: tuple[float, float, float] = ...) -> Activation: ...
    def apply(self, x: _Floats) -> None: ...

@final
class Matrix:
    def __new__(cls, kernel: ArrayLike, bias: ArrayLike | None = None) -> Matrix: ...
    @property
    def depth(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def product(self, x: _Floats, out: _Floats, activation: Activation | None = None) -> _Floats: ...

@final
class Scratch:
    @property
    def nbytes(self) -> int: ...
    def take(self, name: object, shape: tuple[int, ...]) -> _Floats: ...
    def owns(self, array: NDArray[Any]) -> bool: ...

@final
class Rows:
    def __new__(cls, batch: int, timesteps: int, mask: _Mask = None) -> Rows: ...
    @property
    def batch(self) -> int: ...
    @property
    def timesteps(self) -> int: ...
    @property
    def masked(self) -> bool: ...
    @property
    def has_empty(self) -> bool: ...
    @property
    def steps(self) -> int: ...
    @property
    def empty(self) -> _Mask: ...

@final
class Lstm:
    def __new__(
        cls,
        kernel: ArrayLike,
        recurrent_kernel: ArrayLike,
        bias: ArrayLike | None,
        activation: Activation,
        recurrent_activation: Activation,
        embeddings: ArrayLike | None = None,
        project: bool = False,
    ) -> Lstm: ...
    @property
    def features(self) -> int: ...
    @property
    def units(self) -> int: ...
    @property
    def units_padded(self) -> int: ...
    @property
    def rows_of_table(self) -> int: ...
    @property
    def projected(self) -> bool: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def work(self) -> int: ...
    def project(self) -> None: ...

def isas(usable: bool = True) -> list[str]: ...
def isa() -> str | None: ...
def lanes() -> int: ...
def use(name: str) -> None: ...
def aligned(shape: tuple[int, ...], dtype: DTypeLike = ...) -> NDArray[Any]: ...
def run_lstm(
    runs: list[_Run], x: _Floats | NDArray[np.int32], rows: Rows, scratch: Scratch
) -> list[tuple[_Floats, _Floats]]: ...
def fill_masked(
    outputs: _Floats,
    mask: NDArray[np.bool_],
    how: Literal["zero", "previous", "state"],
    initial: _Floats | None,
    reverse: bool,
    flip: bool,
    offset: int,
    units: int,
) -> None: ...
def merge_outputs(outputs: _Floats, other: _Floats, merge: int) -> _Floats: ...
def attention(
    query: _Floats,
    value: _Floats,
    key: _Floats,
    query_mask: _Mask,
    value_mask: _Mask,
    scale: float,
    pooled: bool,
    out: _Floats,
    scratch: Scratch,
    name: object,
) -> _Floats: ...
def mean_over_time(x: _Floats, mask: _Mask, out: _Floats, scratch: Scratch, name: object) -> _Floats: ...
