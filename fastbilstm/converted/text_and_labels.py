"""What a converted model may hold beside its weights: how texts become its input, and the names of its classes.

Checks that they fit the model, and predicts from texts. Imported where it is used: most models hold neither.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import check_whole
from ..errors import FileFormatError, InputError
from ..preprocessing.encoder import TextEncoder, read_tokenizer
from ..preprocessing.labels import check_labels, check_labels_fit, read_labels
from ..preprocessing.sequences import check_rows, check_texts
from ..preprocessing.tokenizer import Tokenizer, tokenizer_from_json
from ..preprocessing.vocabulary import TextVectorization

if TYPE_CHECKING:
    from ..inputs.model_input import Predictions

# Texts that are encoded and predicted together, so that memory does not grow with the texts.
_CHUNK_ROWS = 1024
_HOW = "convert it with a tokenizer (fastbilstm convert --tokenizer FILE, or convert(..., tokenizer=))"


# ---- what fits ------------------------------------------------------------------------------------------------------


def checked_text(model: Any, text: Any) -> TextEncoder:
    """A TextEncoder that gives what the model takes, or InputError."""
    if not isinstance(text, TextEncoder):
        raise InputError(f"text is of type {type(text).__name__}; expected a fastbilstm.preprocessing.TextEncoder")
    inputs = model.inputs
    words, characters = text_inputs(model, text.characters is not None)
    given = inputs[words]
    if text.characters is not None:
        _check_characters(model, characters, text.characters)
    if given.dtype == "string":
        raise InputError(f"input {given.name!r} takes texts as they are: the model needs no tokenizer")
    shape = given.shape[:-1] if len(given.shape) == 3 and given.shape[-1] == 1 else given.shape
    if len(shape) != 2:
        raise InputError(f"input {given.name!r} has shape {given.shape}; a tokenizer gives (rows, timesteps)")
    width, rows = text.maxlen, isinstance(text.tokenizer, TextVectorization) and text.tokenizer.rows
    if rows:
        width = text.tokenizer.width
    if shape[1] is not None and width != shape[1]:
        how = "set the TextVectorization's options" if rows else f"give maxlen={shape[1]} (--maxlen {shape[1]})"
        raise InputError(f"input {given.name!r} takes {shape[1]} timesteps, the texts become {width or 'any'}: {how}")
    limit, largest = model._plan.id_limits[words], text.max_id()
    if limit is not None and largest >= limit:
        how = "give the tokenizer that the model was trained with"
        if not isinstance(text.tokenizer, TextVectorization):
            how += f", or num_words={limit} (--num-words {limit}) if it was limited to that"
        raise InputError(
            f"the tokenizer gives ids up to {largest}; the Embedding that reads input {given.name!r} has {limit} rows, "
            f"for ids from 0 to {limit - 1}: {how}"
        )
    return text


def text_inputs(model: Any, characters: bool) -> tuple[int, int | None]:
    """The numbers of the input of words and of that of characters (None); InputError if the model has others."""
    ranks = [len(given.shape) for given in model.inputs]
    if not characters and len(ranks) == 1:
        return 0, None
    if characters and sorted(ranks) == [2, 3]:
        return ranks.index(2), ranks.index(3)
    names = ", ".join(f"{given.name!r}: {given.shape}" for given in model.inputs)
    if characters:
        need = "characters go with a model of two inputs, words (rows, timesteps) and (rows, timesteps, characters)"
    else:
        need = "a tokenizer goes with a model of one input, or with characters= and two"
    raise InputError(f"{need}; this one has {len(ranks)} ({names})")


def _check_characters(model, number, characters):
    """InputError unless the ids and the width of characters fit their input."""
    given, limit, largest = model.inputs[number], model._plan.id_limits[number], characters.max_id()
    if given.shape[2] not in (None, characters.width):
        raise InputError(f"input {given.name!r} takes {given.shape[2]} characters a token; width is {characters.width}")
    if limit is not None and largest >= limit:
        raise InputError(
            f"the tokenizer of characters gives ids up to {largest}; the Embedding that reads input {given.name!r} has "
            f"{limit} rows, for ids from 0 to {limit - 1}"
        )


def checked_labels(model: Any, labels: Any) -> list[str]:
    """The labels as a list, or InputError if the model does not give one probability for each."""
    labels = check_labels(labels)
    check_labels_fit(labels, model.outputs)
    return labels


def stored_text(text: TextEncoder | bytes | None) -> bytes | None:
    """A text encoder as files hold it, JSON in bytes; bytes were not parsed yet."""
    return text.to_json().encode() if isinstance(text, TextEncoder) else text


def opened_text(model: Any, stored: Any) -> TextEncoder:
    """The TextEncoder of the JSON that a file holds."""
    try:
        return checked_text(model, TextEncoder.from_json(stored.decode("utf-8")))
    except (FileFormatError, InputError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{model.source}: its text encoder is malformed or does not fit: {error}") from error


def fitting(model: Any, text: Any, labels: Any) -> list[Any]:
    """Of a text encoder and labels of another model those that fit this one, each or None."""
    kept = []
    for check, value in ((checked_text, text), (checked_labels, labels)):
        try:
            kept.append(None if value is None else check(model, value))
        except InputError:
            kept.append(None)
    return kept


# ---- what convert is given ------------------------------------------------------------------------------------------


def add(
    model: Any,
    *,
    tokenizer: Any = None,
    tokenizer_type: Any = None,
    num_words: Any = None,
    labels: Any = None,
    remove: Any = None,
    **padding: Any,
) -> None:
    """Give the model the text encoder and labels that `convert` was asked for."""
    options = {name: value for name, value in {**padding, "remove": remove}.items() if value is not None}
    if tokenizer is not None or options or num_words is not None or tokenizer_type is not None:
        if tokenizer is None and model.text is None:
            given = ", ".join([*options, *(["num_words"] if num_words is not None else [])]) or "tokenizer_type"
            raise InputError(f"{given} goes with a tokenizer; give one")
        with _naming(tokenizer):
            model.text = _encoder(model, tokenizer, tokenizer_type, num_words, options)
    if labels is not None:
        with _naming(labels):
            model.labels = read_labels(labels) if isinstance(labels, (str, os.PathLike)) else labels


@contextlib.contextmanager
def _naming(given):
    """Errors name the file that was given, if it was one."""
    try:
        yield
    except InputError as error:
        if isinstance(given, (str, os.PathLike)) and os.fspath(given) not in str(error):
            raise InputError(f"{os.fspath(given)}: {error}") from error
        raise


def _encoder(model, tokenizer, kind, num_words, options):
    found = model.text if tokenizer is None else tokenizer
    if isinstance(found, (str, os.PathLike)):
        found = read_tokenizer(found, kind)
    elif kind is not None:
        raise InputError("tokenizer_type says how a file is meant; the tokenizer is no file")
    elif type(found).__name__ == "Tokenizer" and not isinstance(found, Tokenizer) and hasattr(found, "to_json"):
        # Keras' own.
        if getattr(found, "analyzer", None) is not None:
            raise InputError("the tokenizer has an analyzer, a function, which cannot be stored")
        found = tokenizer_from_json(found.to_json())
    if isinstance(found, TextEncoder):
        names = ("maxlen", "padding", "truncating", "value", "remove", "characters")
        options = {name: getattr(found, name) for name in names} | options
        found = found.tokenizer
    vectorizes = isinstance(found, TextVectorization)
    if num_words is not None:
        if vectorizes:
            raise InputError("num_words goes with a Tokenizer or word index; a vocabulary holds the words that count")
        found = copy.copy(found)
        found.num_words = check_whole("num_words", num_words, 1)
    shape = model.inputs[text_inputs(model, options.get("characters") is not None)[0]].shape
    if options.get("maxlen") is None and len(shape) > 1 and not (vectorizes and found.rows):
        options["maxlen"] = shape[1]
    return TextEncoder(found, **options)


# ---- from texts to answers ------------------------------------------------------------------------------------------


def predict_text(model: Any, texts: Any, batch_size: int | None, n_threads: int | None) -> Predictions:
    """See `Model.predict_text`."""
    texts = check_rows(texts)
    inputs, encoder = model.inputs, model.text
    options = {"batch_size": batch_size, "n_threads": n_threads}
    if len(inputs) == 1 and inputs[0].dtype == "string":
        texts = check_texts(texts)
        given = np.empty(len(texts), object)
        given[:] = texts
        return model.predict(given, **options)
    if encoder is None:
        raise InputError(f"model {model.name!r} holds no tokenizer: {_HOW}, or set model.text to a TextEncoder")
    rows = check_whole("batch_size", batch_size, 1) or inputs[0].shape[0] or 1
    size = max(_CHUNK_ROWS // rows, 1) * rows
    encoded = (_encoded(model, texts[start : start + size]) for start in range(0, max(len(texts), 1), size))
    first = next(encoded)
    if encoder.width is not None:
        return _joined([model.predict(x, **options) for x in itertools.chain([first], encoded)])
    verdict = model._plan.padding
    if not verdict.free:
        raise InputError(
            f"the tokenizer has no maxlen, and {verdict.layer} makes padding matter: {_HOW} and the length that the "
            "model was trained with, maxlen= (--maxlen)"
        )
    chunks = [first, *encoded]
    if isinstance(first, dict):
        return model.predict({name: [row for part in chunks for row in part[name]] for name in first}, **options)
    return model.predict([row for rows in chunks for row in rows], **options)


def _encoded(model, texts):
    """The input of the model for texts or rows of tokens; a dict by input name where characters are one."""
    encoder = model.text
    if encoder.characters is None:
        return encoder.encode(texts)
    words, characters = text_inputs(model, True)
    rows = [[token.text for token in encoder.tokens(row)] if isinstance(row, str) else row for row in texts]
    found = {words: encoder.encode(rows), characters: encoder.encode_characters(rows)}
    return {model.inputs[number].name: found[number] for number in sorted(found)}


def _joined(parts):
    """Answers of chunk after chunk as one, in the structure of the model's outputs."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (list, tuple)):
        return [_joined(list(group)) for group in zip(*parts)]
    return first if len(parts) == 1 else np.concatenate(parts)
