"""What a model asks of options: how it takes text, and that padding does not depend on the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..inputs.model_input import Predictions


def text_method(model: Any) -> Callable[..., Predictions]:
    """`predict_text` of a model that can take text."""
    if not any(given.dtype == "string" for given in model.inputs) and getattr(model, "text", None) is None:
        raise InputError(
            f"model {model.name!r} takes no text: its file has no tokenizer; bundle one with "
            "fastbilstm convert --tokenizer FILE"
        )
    predict: Callable[..., Predictions] = model.predict_text
    return predict


def padding_options(model: Any, pad: str | None, maxlen: int | None, truncating: str) -> dict[str, Any]:
    """The padding options for `predict` that were given; the padded length must not depend on the batch."""
    options = {}
    if pad is not None:
        lengths = {given.shape[1] for given in model.inputs if len(given.shape) > 1}
        if maxlen is None and (None in lengths or len(lengths) != 1):
            raise InputError(
                f"pad={pad!r} (--pad) needs maxlen (--maxlen): padded to the longest row of each batch, the answers "
                "would depend on the batches"
            )
        options = {"pad": pad, "maxlen": lengths.pop() if maxlen is None else maxlen}
    elif maxlen is not None:
        options = {"maxlen": maxlen}
    return {**options, "truncating": truncating} if options else {}
