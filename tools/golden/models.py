"""The whole table: importing this module runs every family and gives SPECS; derived.CASES is filled too."""

from . import (  # noqa: F401  (they add rows)
    activations,
    bidirectional,
    cells,
    convolution,
    derived_convolution,
    derived_gru,
    derived_keras1,
    derived_keras2,
    formats,
    graphs,
    gru,
    images,
    layers,
    merging,
    multihead,
    op_models,
    operations,
    pictures,
    precision,
    preprocessing,
    rarer,
    raw_ops,
    recurrent,
    tf_operations,
    volumes,
    wrappers,
)
from .registry import SPECS

__all__ = ["SPECS"]
