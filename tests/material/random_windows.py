"""Random convolutions, poolings and their kin for random_layers.py: source text of layers over sequences,
images and volumes, and of ConvLSTM.

`draw` is a random_layers.Draw, `shape` the input's (None: free; the batch axis first). An axis of free size is
mostly left as long as it is, so that what is merged later has one length. Imports nothing but the standard library.
"""

from random_layers import code


def channels_first(draw, shape, probability=0.1):
    """Whether to read the channels from axis 1; TensorFlow computes that in float32 alone on a CPU."""
    return draw.floatx == "float32" and shape[1] is not None and draw.chance(probability)


def spatial(shape, first):
    """(sizes of the spatial axes, channels)."""
    return (shape[2:], shape[1]) if first else (shape[1:-1], shape[-1])


def given(draw, values):
    """Numbers of the axes: a tuple, or one number where it says the same."""
    return values[0] if len(set(values)) == 1 and draw.chance(0.5) else tuple(values)


def window(draw, axes, paddings=("valid", "same"), largest=4, name="kernel_size"):
    """Options of windows that fit: their sizes, how they pad, and one of strides and dilation."""
    padding = draw.rng.choice(paddings)
    rooms = [size or max(1, draw.timesteps // 2) for size in axes]
    keep = None in axes and draw.chance(0.85)
    if keep:
        padding = draw.rng.choice([p for p in paddings if p != "valid"])
    sizes = [draw.rng.randint(1, min(largest, room) if padding == "valid" else largest) for room in rooms]
    options = {"padding": padding, name: given(draw, sizes)}
    if not keep and draw.chance(0.35):
        options["strides"] = given(draw, [draw.rng.randint(1, 3)] * len(axes))
    elif keep and name == "pool_size":
        options["strides"] = 1
    elif name == "kernel_size" and draw.chance(0.25):
        dilation = draw.rng.randint(2, 3)
        if padding != "valid" or all((s - 1) * dilation < room for s, room in zip(sizes, rooms)):
            options["dilation_rate"] = dilation
    return options


def common(draw, first):
    return {
        **({"data_format": "channels_first"} if first else {}),
        **draw.some(0.5, activation=draw.activation()),
        **draw.some(0.2, use_bias=False),
        **draw.some(0.05, bias_constraint="non_neg", activity_regularizer="l2"),
    }


def convolution(draw, shape):
    """Conv of one to three axes, SeparableConv or DepthwiseConv of one or two."""
    first = channels_first(draw, shape)
    axes, channels = spatial(shape, first)
    rank = len(axes)
    kind = draw.rng.choice(["Conv", "Conv", "Conv", "SeparableConv", "DepthwiseConv"]) if rank < 3 else "Conv"
    if channels is None:
        return code("L.Dropout", 0.3)
    paddings = ("valid", "same")
    if rank == 1 and (kind == "Conv" or (kind == "SeparableConv" and not draw.keras3)):
        paddings = ("valid", "same", "causal", "causal")
    options = window(draw, axes, paddings) | common(draw, first)
    if kind == "Conv":
        filters = draw.size()
        if draw.chance(0.12):
            groups = draw.rng.choice([g for g in range(1, channels + 1) if channels % g == 0])
            options |= {"groups": groups}
            filters = groups * draw.rng.randint(1, 3)
        return code(f"L.Conv{rank}D", filters, **options)
    options |= draw.some(0.4, depth_multiplier=draw.rng.randint(2, 3))
    if kind == "DepthwiseConv":
        return code(f"L.DepthwiseConv{rank}D", **options)
    return code(f"L.SeparableConv{rank}D", draw.size(), **options)


def transposed(draw, shape):
    first = channels_first(draw, shape)
    axes, channels = spatial(shape, first)
    if channels is None or None in axes or max(axes) > 6:
        return convolution(draw, shape)
    options = window(draw, [9] * len(axes)) | common(draw, first)
    if draw.floatx == "float64" or len(axes) > 2:
        options.pop("dilation_rate", None)  # TensorFlow computes it in float32 alone on a CPU
    strides = options.get("strides", 1)
    strides = strides if isinstance(strides, int) else strides[0]
    if strides > 1 and draw.chance(0.4):
        options["output_padding"] = draw.rng.randint(0 if options["padding"] == "valid" else 1, strides - 1)
    return code(f"L.Conv{len(axes)}DTranspose", draw.size(), **options)


def pooling(draw, shape):
    first = channels_first(draw, shape)
    axes, _ = spatial(shape, first)
    if len(axes) > 2:
        # TensorFlow pools volumes in float32 alone on a CPU: in float64 it cannot tell whose rounding is nearer.
        return convolution(draw, shape)
    if draw.keras3 and None not in axes and min(axes) > 1 and draw.chance(0.2):
        kind, form = draw.rng.choice(["Average", "Max"]), {"data_format": "channels_first"} if first else {}
        # TensorFlow divides by zero for a single window, and for an axis of one position.
        windows = tuple(draw.rng.randint(2, 4) for _ in axes)
        return code(f"L.Adaptive{kind}Pooling{len(axes)}D", windows, **form)
    kind = draw.rng.choice(["MaxPooling", "AveragePooling"])
    options = window(draw, axes, name="pool_size") | ({"data_format": "channels_first"} if first else {})
    return code(f"L.{kind}{len(axes)}D", **options)


def global_pooling(draw, shape):
    kind = draw.rng.choice(["Average", "Max"])
    return code(
        f"L.Global{kind}Pooling{len(shape) - 2}D",
        **draw.some(0.2, keepdims=True),
        **draw.some(0.2, data_format="channels_first"),
    )


def resizing(draw, shape):
    """ZeroPadding, Cropping or UpSampling."""
    rng, rank = draw.rng, len(shape) - 2
    first = rank > 1 and channels_first(draw, shape)
    axes, _ = spatial(shape, first)
    rooms = [size or max(1, draw.timesteps // 2) for size in axes]
    if None in axes and draw.chance(0.7):
        return pooling(draw, shape)
    options = {"data_format": "channels_first"} if first else {}
    kind = rng.choice(["ZeroPadding", "Cropping", "UpSampling"])
    if kind == "UpSampling" and max(rooms) <= 8:
        if rank == 1:
            return code("L.UpSampling1D", rng.randint(1, 3))
        if rank == 3:
            return code("L.UpSampling3D", given(draw, [rng.randint(1, 2) for _ in axes]), **options)
        if draw.floatx == "float32" and draw.chance(0.4):
            names = ["bilinear", "bilinear", "bicubic", "lanczos3"] + (
                [] if draw.keras3 else ["gaussian", "mitchellcubic"]
            )
            options["interpolation"] = rng.choice(names)
        return code("L.UpSampling2D", given(draw, [rng.randint(1, 3), rng.randint(1, 3)]), **options)
    if kind == "Cropping":
        ends = [(rng.randint(0, (room - 1) // 2), rng.randint(0, (room - 1) // 2)) for room in rooms]
    else:
        ends = [(rng.randint(0, 2), rng.randint(0, 2)) for _ in rooms]
    return code(
        f"L.{'Cropping' if kind == 'Cropping' else 'ZeroPadding'}{rank}D",
        ends[0] if rank == 1 else tuple(ends),
        **options,
    )


def image_size(draw, shape):
    """Resizing, CenterCrop or RandomCrop of images, in float32 as TensorFlow resizes them."""
    rng = draw.rng
    first = draw.keras3 and channels_first(draw, shape)
    axes, _ = spatial(shape, first)
    if len(axes) != 2 or None in axes or draw.floatx != "float32":
        return resizing(draw, shape)
    options = {"data_format": "channels_first"} if first else {}
    kind = rng.choice(["Resizing", "Resizing", "Resizing", "CenterCrop", "RandomCrop"])
    if kind == "RandomCrop" and draw.keras3:
        return code("L.RandomCrop", *axes, **options)  # at inference another size remains what it was
    target = [rng.randint(1, 2 * size) for size in axes]
    if kind != "Resizing":
        return code(f"L.{kind}", *target, **options)
    names = ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]
    names += [] if draw.keras3 else ["area", "gaussian", "mitchellcubic"]
    options |= {"interpolation": rng.choice(names), **draw.some(0.3, crop_to_aspect_ratio=True)}
    if draw.keras3:
        options |= draw.some(0.3, antialias=True)
        if "crop_to_aspect_ratio" not in options:
            options |= draw.some(0.4, pad_to_aspect_ratio=True, fill_value=0.5)
    return code("L.Resizing", *target, **options)


def stft(draw, shape):
    """STFTSpectrogram of a sequence, which only Keras 3 has; logarithms and angles magnify rounding errors."""
    first = channels_first(draw, shape)
    (time,), channels = spatial(shape, first)
    if not draw.keras3 or None in (time, channels):
        return convolution(draw, shape)
    length = draw.rng.randint(2, max(2, min(time, 8)))
    options = {"frame_length": length, "frame_step": draw.rng.randint(1, length)}
    options |= draw.some(0.3, fft_length=length + draw.rng.randint(0, 4)) | draw.some(0.3, expand_dims=True)
    options |= {"padding": "same"} if time < length or draw.chance(0.5) else {}
    options |= {"data_format": "channels_first"} if first else {}
    mode = draw.rng.choice(["magnitude", "psd", "real", "imag", "stft"])
    return code("L.STFTSpectrogram", mode, **options)


def locally_connected(draw, shape):
    """LocallyConnected of one or two axes, which only tf.keras has."""
    first = channels_first(draw, shape)
    axes, channels = spatial(shape, first)
    if draw.keras3 or len(axes) > 2 or None in (*axes, channels):
        return convolution(draw, shape)
    options = window(draw, axes) | common(draw, first)
    options.pop("dilation_rate", None)
    options["implementation"] = draw.rng.randint(1 if options["padding"] == "valid" else 2, 3)
    return code(f"L.LocallyConnected{len(axes)}D", draw.size(), **options)


def conv_lstm(draw, shape, functional=False):
    """ConvLSTM over (timesteps, *frame) of known size, perhaps Bidirectional."""
    first = draw.floatx == "float32" and draw.chance(0.1)
    axes = shape[3:] if first else shape[2:-1]
    timesteps = shape[1] or 2 * draw.timesteps
    options = window(draw, axes, largest=3) | ({"data_format": "channels_first"} if first else {})
    options |= draw.some(0.6, return_sequences=True) | draw.some(0.15, use_bias=False)
    options |= draw.some(0.3, activation=draw.activation(timesteps))
    options |= draw.some(0.3, recurrent_activation=draw.activation(timesteps))
    if draw.stateful:
        options |= draw.some(0.7, stateful=True)
    if draw.chance(0.3):
        made = code(f"L.ConvLSTM{len(axes)}D", draw.rng.randint(1, 4), **options)
        return code("L.Bidirectional", made, **draw.some(0.5, merge_mode=draw.rng.choice(["sum", "mul", "ave"])))
    options |= draw.some(0.2, go_backwards=True) | (draw.some(0.2, return_state=True) if functional else {})
    return code(f"L.ConvLSTM{len(axes)}D", draw.rng.randint(1, 4), **options)


def layer(draw, shape):
    """A layer over windows for an input of three to five axes."""
    kinds = {convolution: 6, pooling: 4, resizing: 2, transposed: 1, locally_connected: 0 if draw.keras3 else 2}
    if len(shape) > 3:
        kinds |= {global_pooling: 1}
    kinds |= {3: {stft: 1}, 4: {image_size: 2}}.get(len(shape), {})
    return draw.rng.choices(list(kinds), kinds.values())[0](draw, shape)
