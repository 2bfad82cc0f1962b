"""Dense, Embedding, Masking, and the layers that do nothing at inference.

The specification, in NumPy. Imports NumPy; knows nothing of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..activations import linear
from ..errors import InputError
from .base import (
    REGISTRY,
    BaseLayer,
    Option,
    Spec,
    Tensor,
    activation,
    boolean,
    choice,
    integer,
    optional,
    real,
    register,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def dense(x, kernel, bias=None, activation=linear):
    """x (..., F), kernel (F, U), bias (U,) or None -> activation(x.K + b) (..., U)."""
    y = x @ kernel
    return activation(y if bias is None else y + bias)


def embedding(ids, embeddings):
    """ids (...) whole numbers, embeddings (V, D) -> rows of the table (..., D); refuses ids outside 0..V-1."""
    return embeddings[check_ids(ids, len(embeddings))]


def check_ids(
    ids: NDArray[Any], size: int, what: str = "token id", place: Callable[[tuple[int, ...]], Any] | None = None
) -> NDArray[Any]:
    """Return `ids` as integers, floats truncated as in Keras; InputError if one is not in 0..size-1.

    `place` maps a position in `ids` to the position in what the user gave.
    """
    kind, bits = ids.dtype.kind, 8 * ids.dtype.itemsize
    # One comparison for both bounds: read as unsigned, a negative number is very large.
    if kind in "iu" and ids.size and size <= 1 << (bits - 1) and ids.view(f"u{bits // 8}").max() < size:
        return ids
    bad = ~((ids > -1) & (ids < size))  # in this form NaN is bad, too
    if bad.any():
        position = tuple(int(i) for i in np.argwhere(bad)[0])
        shown = position if place is None else place(position)
        raise InputError(
            f"{what} at position {shown} is {ids[position]}; expected 0 to {size - 1} (input_dim is {size})"
        )
    return ids if kind in "iu" else ids.astype(np.int64)


def own_ids(ids):
    """Token ids that no other thread can change between the check and the lookup.

    Inputs of whole numbers were copied before the run. An input of floats may be the caller's memory, and is copied.
    """
    return ids if ids.dtype.kind in "iu" else ids.copy()


def half_precision(dtype):
    """'float16' or 'bfloat16' if Keras computes in it under this dtype policy, else None."""
    name = (dtype.get("config") or {}).get("name") if isinstance(dtype, dict) else dtype
    name = str(name).removeprefix("mixed_")
    return name if name in ("float16", "bfloat16") else None


def round_to(precision, x):
    """`x` rounded to float16 or bfloat16 (nearest, ties to even), in its own dtype; `x` itself for None."""
    if precision is None:
        return x
    if precision == "float16":
        return x.astype(np.float16).astype(x.dtype)
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), rounded.astype(np.uint32).view(np.float32), x).astype(x.dtype)


@register
class InputLayer(BaseLayer):
    """A model input. The reader turns it into graph.Input, so it is never called."""

    exact = True
    ignored = ("sparse", "ragged", "optional", "batch_size", "shape", "type_spec")


@register
class Dense(BaseLayer):
    options = {
        "units": Option(integer(1)),
        "activation": Option(activation, None),
        "use_bias": Option(boolean, True),
    }
    ignored = ("input_dim", "lora_rank", "lora_alpha")
    product = staticmethod(dense)

    def weight_shapes(self, shapes):
        roles = {"kernel": (shapes[0][-1] if shapes else None, self.units)}
        if self.use_bias:
            roles["bias"] = (self.units,)
        return roles

    def output_shape(self, shape):
        if len(shape) < 2:
            self.fail(f"its input has shape {shape}; expected at least 2 axes")
        return (*shape[:-1], self.units)

    def compute(self, x, mask):
        return self.product(x, **self.weights, activation=self.activation_function())


@register
class Embedding(BaseLayer):
    exact = True
    options = {
        "input_dim": Option(integer(1)),
        "output_dim": Option(integer(1)),
        "mask_zero": Option(boolean, False),
        "sparse": Option(choice(False), False),
    }
    ignored = ("dropout", "lora_rank", "lora_alpha")
    casts_input = False

    def weight_shapes(self, shapes):
        return {"embeddings": (self.input_dim, self.output_dim)}

    def infer(self, inputs, kwargs):
        return [Spec((*inputs[0].shape, self.output_dim), self.mask_zero)]

    def call(self, inputs, kwargs, states):
        ids = own_ids(inputs[0].value)
        try:
            rows = embedding(ids, self.weights["embeddings"])
        except InputError as error:
            raise InputError(f"layer {self.name!r} (Embedding): {error}") from None
        # The mask comes from the ids as given: 0.6 reads row 0 and is not masked.
        return [Tensor(rows, ids != 0 if self.mask_zero else None)]


@register
class ReversibleEmbedding(Embedding):
    """An Embedding that is called with reverse=True, too: logits of all tokens, x.E^T (..., V), or x.K if not tied.

    Logits are c tanh(z / c) where logit_soft_cap is c.
    """

    exact = False
    options = {
        **Embedding.options,
        "tie_weights": Option(boolean, True),
        "reverse_dtype": Option(choice(None, "float16", "bfloat16", "float32", "float64"), None),
        "logit_soft_cap": Option(optional(real), None),
    }

    def weight_shapes(self, shapes):
        roles = super().weight_shapes(shapes)
        return roles if self.tie_weights else {**roles, "reverse_embeddings": (self.output_dim, self.input_dim)}

    def check_sizes(self, shapes):
        super().check_sizes(())

    def infer(self, inputs, kwargs):
        if not kwargs.get("reverse"):
            return super().infer(inputs, kwargs)
        shape = inputs[0].shape
        if shape[-1] not in (None, self.output_dim):
            self.fail(f"it is called in reverse with shape {shape}; expected {self.output_dim} along the last axis")
        return [Spec((*shape[:-1], self.input_dim))]

    def call(self, inputs, kwargs, states):
        if not kwargs.get("reverse"):
            return super().call(inputs, kwargs, states)
        dtype = np.result_type(self.dtype, "float64" if self.reverse_dtype == "float64" else "float32")
        logits = self.project(inputs[0].value.astype(dtype, copy=False))
        if self.logit_soft_cap is not None:
            logits = np.tanh(logits / self.logit_soft_cap) * self.logit_soft_cap
        return [Tensor(logits.astype(self.dtype, copy=False))]

    def project(self, x):
        """x (..., D) -> x.E^T or x.K (..., V)."""
        kernel = self.weights["embeddings"].T if self.tie_weights else self.weights["reverse_embeddings"]
        return x @ kernel.astype(x.dtype, copy=False)


@register
class Masking(BaseLayer):
    """Skip the timesteps whose features all equal mask_value."""

    exact = True
    # In half precision Keras compares rounded inputs. Nothing else is rounded here; see `call`.
    options = {"mask_value": Option(real, 0.0), "dtype": Option(half_precision, None)}

    def infer(self, inputs, kwargs):
        return [Spec(inputs[0].shape, True)]

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        precision = self.config.get("dtype")
        # Keras 3 compares with the value as float32 even in float64 and in half precision, where a value such as 0.1
        # equals no input; tf.keras and before compare with the value in the input's precision.
        if self.version.is_keras3:
            value = np.float32(self.mask_value)
        else:
            value = round_to(precision, np.asarray(self.mask_value, x.dtype))
        keep = np.any(round_to(precision, x) != value, axis=-1)
        wide = keep[..., np.newaxis]
        # Up to Keras 3.14 and in tf.keras a masked value is multiplied by zero, so that NaN stays NaN.
        select = self.version.is_keras3 and self.version.version >= (3, 15)
        return [Tensor(np.where(wide, x, 0) if select else x * wide, keep)]


# ---- the identity at inference --------------------------------------------------------------------------------------


class Identity(BaseLayer):
    """Layers that act only in training; at inference they return their input."""

    exact = True
    ignored = (
        *("rate", "noise_shape", "seed", "stddev", "sigma", "p", "l1", "l2", "data_format"),
        *("activity_regularizer", "mask_value"),
    )
    casts_input = False

    def compute(self, x, mask):
        return x


class Unchanged(BaseLayer):
    """Keras' layer Identity, which ends the mask in tf.keras."""

    exact = True
    casts_input = False

    @property
    def passes_mask(self):
        return self.version.is_keras3

    def compute(self, x, mask):
        return x


REGISTRY["Identity"] = Unchanged

for _name in (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout"),
    *("AlphaDropout", "ActivityRegularization"),
):
    register(type(_name, (Identity,), {"__module__": __name__, "__doc__": Identity.__doc__}))


class Augmentation(Unchanged):
    """Layers that change images in training alone, and give floats.

    Keras 3 returns the tensor of a batch of images itself, which keeps its mask. One image is another tensor.
    """

    casts_input = True
    passes_mask = False
    ignored = (
        *("factor", "height_factor", "width_factor", "x_factor", "y_factor", "brightness_factor", "contrast_factor"),
        *("saturation_factor", "hue_factor", "value_range", "mode", "seed", "rng_type", "interpolation", "fill_mode"),
        *("fill_value", "data_format", "scale", "sigma", "kernel_size", "alpha", "num_ops", "num_chains"),
        *("chain_depth", "all_ops", "bounding_box_format", "addition_factor", "threshold_factor"),
    )

    def infer(self, inputs, kwargs):
        self.passes_mask = self.version.is_keras3 and len(inputs[0].shape) == 4
        return super().infer(inputs, kwargs)


for _name in (
    *("AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter"),
    *("RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur"),
    *("RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization"),
    *("RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomWidth"),
    *("RandomZoom", "Solarization"),
):
    register(type(_name, (Augmentation,), {"__module__": __name__, "__doc__": Augmentation.__doc__}))
