"""What `load` was asked to make of a Keras file, beside the file itself. Knows no files."""

from __future__ import annotations

from typing import Any

from ..record import Record


class Asked(Record):
    """How a model is read.

    Attributes
    ----------
    outputs : list of str or None
        Layers to cut the graph at.
    lambdas : dict of str to callable
        What Lambda layers compute, by name.
    inference : bool
        Whether training=True in calls is switched off.
    """

    outputs: list[str] | None = None
    lambdas: dict[str, Any] = {}
    inference: bool = False


PLAIN = Asked()
