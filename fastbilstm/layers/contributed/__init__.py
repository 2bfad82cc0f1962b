"""Classes of other packages that stand in people's recurrent files: CRF, attention, TCN. A file for each family.

`find` says which of them a class in a file is, by its name and its options; a class of that name with other options is
none of them. Each class names its source: package, version, license, address. Files of models call them by the class
name alone, so they are kept in REGISTRY as "package.Class", which no file and no `register_layer` can name.
"""

from __future__ import annotations

import re
from typing import Any

from ..base import REGISTRY

MODULES = ("contributed.attention", "contributed.crf", "contributed.tcn")
# Class name -> [(key in REGISTRY, the options that its get_config writes, beside those of every layer)].
_CRF = "units learn_mode test_mode use_boundary use_bias sparse_target activation input_dim unroll".split()
_SELF_ATTENTION = (
    "units attention_width attention_type return_attention history_only use_additive_bias use_attention_bias "
    "attention_activation attention_regularizer_weight"
).split()
_TCN = (
    "nb_filters kernel_size nb_stacks dilations padding use_skip_connections dropout_rate return_sequences activation "
    "use_batch_norm use_layer_norm"
).split()
# Written by older versions of the package, which computed otherwise: a value in place of a name, other options.
_ONLY = {"tf2crf.CRF": lambda config: config["chain_initializer"] == "orthogonal" and "units" not in config}
CLASSES = {
    "CRF": [
        ("keras_contrib.CRF", _CRF),
        ("tensorflow_addons.CRF", ["units", "use_boundary", "use_kernel", "chain_initializer"]),
        ("tf2crf.CRF", ["chain_initializer"]),
    ],
    "ChainCRF": [("phipleg.ChainCRF", ["init", "U_regularizer", "b_start_regularizer", "b_end_regularizer"])],
    "SeqSelfAttention": [("keras_self_attention.SeqSelfAttention", _SELF_ATTENTION)],
    "SeqWeightedAttention": [("keras_self_attention.SeqWeightedAttention", ["use_bias", "return_attention"])],
    "AttentionWeightedAverage": [("deepmoji.AttentionWeightedAverage", [])],
    "Attention": [("attention.Attention", ["units", "score"]), ("attention4.Attention", ["units"])],
    "TCN": [("keras_tcn.TCN", _TCN)],
}


def find(class_name: str, config: dict[str, Any]) -> str | None:
    """The key in REGISTRY of the class that a file means, or None. A package before the name ("Addons>CRF") is free."""
    for key, written in CLASSES.get(class_name.rsplit(">", 1)[-1], ()):
        if all(option in config for option in written) and (key not in _ONLY or _ONLY[key](config)):
            return key
    return None


def names_in_file(class_name: str, config: dict[str, Any]) -> dict[str, re.Pattern[str]]:
    """{role: how the source names that array in an .h5 file}; empty for a class that is none of these."""
    cls = REGISTRY.get(class_name) if "." in class_name else None
    patterns = getattr(cls, "names_in_file", None)
    found = patterns(config) if patterns else {}
    return {role: re.compile(rf"(?:^|/){pattern}(?:_\d+)?(?::\d+)?$") for role, pattern in found.items()}
