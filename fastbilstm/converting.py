"""convert: from a file of any kind to a converted file, with texts, labels, a self-check vector and narrow weights.

`loading.py` reads the source. Imported when `convert` is called: most processes convert nothing.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

from .checks import check_not_read
from .converted import narrow_error, self_check, text_and_labels, versions
from .converted.fbl_file import Vector
from .errors import FastBiLSTMError, FileFormatError, InputError
from .loading import is_converted, load, narrowed_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol, TypeAlias

    from .inputs.model_input import ModelInput
    from .loading import ModelSource
    from .model import Model
    from .preprocessing import TextEncoder, TextVectorization, Tokenizer, WordIndex

    class KerasTokenizer(Protocol):
        """Keras' own Tokenizer, as far as it is read."""

        word_index: Any

        def to_json(self) -> str: ...

    AnyTokenizer: TypeAlias = Tokenizer | WordIndex | TextVectorization | TextEncoder | KerasTokenizer


def convert(
    source: ModelSource,
    target: str | os.PathLike[str],
    *,
    config: dict[str, Any] | str | os.PathLike[str] | None = None,
    outputs: str | Sequence[str] | None = None,
    any_length: bool = False,
    inference: bool = False,
    lambdas: dict[str, Callable[[Any], Any]] | None = None,
    overwrite: bool = False,
    keras: bool = False,
    trust: bool = False,
    tokenizer: str | os.PathLike[str] | AnyTokenizer | None = None,
    tokenizer_type: Literal["tokenizer", "word_index", "imdb", "vocabulary"] | None = None,
    num_words: int | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    maxlen: int | None = None,
    padding: Literal["pre", "post"] | None = None,
    truncating: Literal["pre", "post"] | None = None,
    remove: Sequence[str] | None = None,
    weights: Literal["float32", "bfloat16", "float16", "int8"] | None = None,
    calibrate: str | os.PathLike[str] | ModelInput | None = None,
) -> Model:
    """Convert a Keras file or model to one file that loads with NumPy alone.

    With a tokenizer and labels the file takes texts (`Model.predict_text`) and names its answers. They can be added to
    a file that is converted already.

    Parameters
    ----------
    source : str, PathLike, bytes, binary file object or Keras model
        See `load`.
    target : str or PathLike
        The file to write; the usual suffix is .fbl. Written under a temporary name and renamed.
    config, outputs, any_length, inference, lambdas
        See `load`. The converted file keeps the timesteps that are free.
    overwrite : bool
        Whether an existing `target` is replaced.
    keras : bool
        Record the self-check vector with the installed Keras (3, or tf_keras for files of Keras 1 and 2) instead of
        our float64 specification. Keras is given a model built from the layers and weights read, never the file.
    trust : bool
        With `keras`: hand the file itself to Keras. This runs code from the file, a Lambda's for one, even behind
        `outputs`: for files that you trust. `source` must then be a path.
    tokenizer : str, PathLike, or Tokenizer, WordIndex, TextVectorization or TextEncoder, optional
        What turned texts into ids at training: an object of `fastbilstm.preprocessing` (or Keras' Tokenizer), or a
        file; see `preprocessing.read_tokenizer`.
    tokenizer_type : {"tokenizer", "word_index", "imdb", "vocabulary"}, optional
        How the file is meant, where it does not say so itself.
    num_words : int, optional
        The limit of ids that the tokenizer had at training, where its file does not hold it.
    labels : list of str, str or PathLike, optional
        The name of each class, or a file of them; see `preprocessing.read_labels`.
    maxlen, padding, truncating, remove
        See `preprocessing.TextEncoder`. `maxlen` is by default the model's number of timesteps, if that is fixed.
    weights : {"float32", "bfloat16", "float16", "int8"}, optional
        The form of kernels and embeddings; see `load`. The file holds them in that form, and how far the model is from
        its float32 twin on made-up rows (`Model.measured`). A RuntimeWarning tells if labels differ there.
    calibrate : str, PathLike, array_like, list or dict, optional
        With narrow weights: rows to measure that on, too; a .npy file, a .npz keyed by input name, or what
        `Model.predict` takes. They change no weight.

    Returns
    -------
    Model
        The converted model, with its self-check vector.

    Raises
    ------
    FileFormatError, UnsupportedLayerError, MissingExtraError
        See `load`; FileFormatError also if `target` exists and `overwrite` is false.
    InputError
        If tokenizer, labels or `calibrate` do not fit the model: an id beyond its Embedding, a label too many; if
        `target` is one of the files that are read (a converted `source` may be replaced); or if int8 does not suit the
        model.
    """
    # A converted file may be replaced by itself with texts and labels: it loses nothing.
    read = [path for path in (source, config, tokenizer, labels, calibrate) if isinstance(path, (str, os.PathLike))]
    check_not_read(target, [path for path in read if path is not source or not is_converted(path)])
    if not overwrite and os.path.lexists(target):
        raise FileFormatError(f"{os.fspath(target)}: exists already; allow it with overwrite=True (--overwrite)")
    if trust and not keras:
        raise FastBiLSTMError("trust=True (--trust) goes with keras=True (--keras): only Keras runs code from a file")
    if trust and not isinstance(source, (str, os.PathLike)):
        raise FastBiLSTMError("trust=True hands a file to Keras; give the path of the source")
    model = load(source, config=config, outputs=outputs, any_length=any_length, inference=inference, lambdas=lambdas)
    wide = model
    if weights is not None and weights != model.weights:
        if trust:
            raise FastBiLSTMError(f"trust=True gives Keras float32 weights; leave it or weights={weights!r} out")
        model = narrowed_model(model, weights)
    if calibrate is not None and model is wide:
        raise InputError(
            "calibrate measures what weights='int8' (or 'bfloat16', 'float16') costs, and needs the float32 weights: "
            f"{model.source} holds its weights in {model.weights}, and they are not narrowed"
        )
    given = {"tokenizer": tokenizer, "tokenizer_type": tokenizer_type, "num_words": num_words, "labels": labels}
    given |= {"maxlen": maxlen, "padding": padding, "truncating": truncating, "remove": remove}
    if any(value is not None for value in given.values()):
        text_and_labels.add(model, **given)
    if keras:
        model.vector = _record_with_keras(model, (source, config, outputs) if trust else None)
    if model is not wide:
        if model.vector is None:
            model.vector = self_check.with_int8_errors(self_check.make(model.graph, model._tensors), model)
        model.measured = narrow_error.measure(model, wide, calibrate)
        for one in model.measured:
            if one.flips:
                warnings.warn(f"weights={model.weights!r}: {one}", RuntimeWarning, stacklevel=2)
    model.save(target, overwrite=overwrite)
    return load(target, lambdas=lambdas)


def _record_with_keras(model: Model, trusted: Any) -> Vector:
    """A self-check vector whose outputs the installed Keras computed; FastBiLSTMError if it cannot."""
    from .keras import installed_keras  # few conversions ask Keras

    made = self_check.make(model.graph, model._tensors)
    inputs = list(made.inputs)
    if trusted is not None:
        path, config, outputs = trusted
        outputs = [outputs] if isinstance(outputs, str) else outputs
        trusted = installed_keras.TrustedFile(os.fspath(path), config, outputs)
    try:
        title, results = installed_keras.run(model.graph, model._tensors, inputs, trusted)
    except installed_keras.KerasUnavailable as reason:
        raise FastBiLSTMError(f"{model.source}: no vector can be recorded with Keras: {reason}") from reason
    apart = versions.difference(model.graph, model._tensors, inputs, results, title)
    if apart is not None:
        raise FastBiLSTMError(f"{model.source}: no vector can be recorded with Keras: {apart}")
    vector = Vector(tuple(inputs), tuple(results), title, made.roundings)
    return self_check.with_int8_errors(vector, model)
