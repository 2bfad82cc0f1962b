"""The whole table: importing this module runs every family and gives SPECS; derived.CASES is filled too."""

from . import (  # noqa: F401  (they add rows)
    activations,
    bidirectional,
    derived_keras1,
    derived_keras2,
    formats,
    graphs,
    layers,
    merging,
    multihead,
    preprocessing,
    recurrent,
)
from .registry import SPECS

__all__ = ["SPECS"]
