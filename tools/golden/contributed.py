"""Write tests/golden/contributed.zip: models with classes of other packages, and what those packages answer.

    python tools/golden/contributed.py SOURCES

SOURCES is a folder with the sources, unpacked side by side: keras_contrib/ (3fc5ef7), tensorflow_addons/ (0.23.0),
tf2crf.py (tf2crf/crf.py of 0.1.33), chaincrf.py (keras/layers/crf.py of phipleg/keras, branch crf), textgenrnn/
(2.0.0), keras_self_attention/ (0.51.0), attention/ (5.0.0), attention4.py (attention/attention.py of the same
repository at 08095bf), tcn/ (keras-tcn 3.5.7) and tcn344/tcn/ (keras-tcn 3.4.4). They are run by tf_keras and, where
they can be, by Keras 3, each in a process of its own; what old ones import from an older Keras is put in its place
here. Each model has an output for each variant of a class; the rows have padding in front, at the end, in the middle,
everywhere and nowhere.
"""

import importlib
import io
import os
import subprocess
import sys
import tempfile
import types
import zipfile
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "contributed.zip"
MASKS = np.array([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], bool)
STORIES = {"legacy": ("crf", "addons", "attention", "tcn", "tcn344"), "keras3": ("tcn3",)}


def stub(name, **members):
    """A module in the place of one that is not there, or that needs more than the source does."""
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []
    for key, value in members.items():
        setattr(module, key, value)
    return module


def load_file(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def old_keras(k):
    """tf_keras under the names that sources for Keras 1 and 2 import."""
    stub("keras", backend=k.backend, activations=k.activations, initializers=k.initializers, layers=k.layers)
    sys.modules["keras"].regularizers, sys.modules["keras"].constraints = k.regularizers, k.constraints
    stub("keras.layers", Layer=k.layers.Layer, InputSpec=k.layers.InputSpec)


def crf_layers(k, sources):
    """Variants of keras_contrib's CRF, with and without a mask, and of ChainCRF."""
    import tensorflow as tf

    old_keras(k)
    stub("keras_contrib")
    stub("keras_contrib.losses", crf_loss=None)
    stub("keras_contrib.metrics", crf_marginal_accuracy=None, crf_viterbi_accuracy=None)
    stub("keras_contrib.utils")
    stub("keras_contrib.utils.test_utils", to_tuple=lambda shape: tuple(shape))
    crf = load_file(sources / "keras_contrib" / "layers" / "crf.py", "keras_contrib.layers.crf").CRF
    variants = {
        "join": {},
        "join_marginal": {"test_mode": "marginal", "use_bias": False, "activation": "tanh"},
        "marginal": {"learn_mode": "marginal", "use_boundary": False, "unroll": True},
        "marginal_viterbi": {"learn_mode": "marginal", "test_mode": "viterbi", "activation": "relu"},
        "boundary": {"learn_mode": "marginal"},
    }
    found = [crf(3, name=name + end, **options) for name, options in variants.items() for end in ("", "_masked")]
    # ChainCRF: a fork of Keras 1; its backend had batch_gather, and a few things had other names.
    text = (
        (sources / "chaincrf.py").read_text().replace("from .. import backend as K", "from keras import backend as K")
    )
    text = text.replace("from .. import initializations,", "from keras import initializers as initializations,")
    text = text.replace("from ..engine import", "from keras.layers import")
    k.backend.slice, k.backend.logsumexp = tf.slice, tf.reduce_logsumexp
    k.backend.batch_gather = lambda table, tags: tf.gather(table, tags, axis=1, batch_dims=1)
    module = types.ModuleType("chaincrf")
    exec(compile(text, "chaincrf.py", "exec"), vars(module))

    class ChainCRF(module.ChainCRF):
        def add_weight(self, shape, **options):
            return super().add_weight(shape=shape, **{**options, "name": options["name"].split("/")[-1]})

        def get_config(self):
            return {**k.layers.Layer.get_config(self), **dict.fromkeys(
                ("U_regularizer", "b_start_regularizer", "b_end_regularizer", "U_constraint", "b_start_constraint",
                 "b_end_constraint")), "init": "glorot_uniform"}  # fmt: skip

    return [*found, ChainCRF(name="chain"), ChainCRF(name="chain_masked")]


def addons_layers(k, sources):
    """Variants of the CRF of TensorFlow Addons, and that of tf2crf."""
    kinds = dict.fromkeys(("TensorLike", "Initializer", "Number", "FloatTensorLike"))
    stub("typeguard", typechecked=lambda function: function)
    for name in ("", ".utils", ".text", ".layers"):
        stub(f"tensorflow_addons{name}")
    types_ = stub("tensorflow_addons.utils.types", **kinds)
    sys.modules["tensorflow_addons.utils"].types = types_
    load_file(sources / "tensorflow_addons" / "text" / "crf.py", "tensorflow_addons.text.crf")
    crf = load_file(sources / "tensorflow_addons" / "layers" / "crf.py", "tensorflow_addons.layers.crf").CRF
    sys.modules["tensorflow_addons"].text = sys.modules["tensorflow_addons.text.crf"]
    tf2crf = load_file(sources / "tf2crf.py", "tf2crf").CRF
    variants = {"plain": {}, "plain_masked": {}, "no_boundary_masked": {"use_boundary": False}}
    variants |= {"no_kernel": {"use_kernel": False}}
    found = [crf(3, name=name, **options) for name, options in variants.items()]
    return [*found, tf2crf(name="tf2crf"), tf2crf(name="tf2crf_masked")]


def attention_layers(k, sources):
    """Variants of SeqSelfAttention, SeqWeightedAttention, AttentionWeightedAverage and Attention 4 and 5."""
    sys.path.insert(0, str(sources))
    from attention.attention import Attention

    attention4 = load_file(sources / "attention4.py", "attention4").Attention
    found = [Attention(units=3, name="luong"), Attention(units=3, score="bahdanau", name="bahdanau")]
    found += [Attention(units=2, name="luong_masked"), Attention(units=2, score="bahdanau", name="bahdanau_masked")]
    found += [attention4(units=3, name="luong4")]
    average = load_file(sources / "textgenrnn" / "AttentionWeightedAverage.py", "average").AttentionWeightedAverage
    found += [average(name="average")]

    class AttentionWeightedAverage(average):
        """With the option in its config, as copies of the class have it."""

        def get_config(self):
            return {**super().get_config(), "return_attention": self.return_attention}

    found += [AttentionWeightedAverage(return_attention=True, name="average_masked")]
    from keras_self_attention import SeqSelfAttention, SeqWeightedAttention

    found += [SeqWeightedAttention(name="weighted"), SeqWeightedAttention(use_bias=False, return_attention=True,
                                                                          name="weighted_masked")]  # fmt: skip
    variants = [
        ("additive", {"attention_activation": "sigmoid"}),
        ("additive_plain", {"use_additive_bias": False, "use_attention_bias": False, "return_attention": True}),
        ("multiplicative", {"attention_type": "multiplicative", "attention_activation": "tanh"}),
        ("window", {"attention_width": 3, "attention_type": "multiplicative", "use_attention_bias": False}),
        ("even", {"attention_width": 2, "attention_regularizer_weight": 1e-4}),
        ("history", {"history_only": True}),
        ("short_history", {"history_only": True, "attention_width": 2}),
        ("additive_masked", {"return_attention": True}),
        ("window_masked", {"attention_width": 3}),
        ("multiplicative_masked", {"attention_type": "multiplicative"}),
    ]
    return found + [SeqSelfAttention(units=2, name=name, **options) for name, options in variants]


def tcn_layers(k, sources, legacy=True):
    """Variants of TCN."""
    sys.path.insert(0, str(sources))
    if legacy:
        stub("keras.src.saving", register_keras_serializable=lambda: lambda cls: cls)
    from tcn import TCN

    variants = [
        ("causal", {"dilations": (1, 2), "kernel_size": 2, "return_sequences": True}),
        ("same_masked", {"nb_filters": 2, "dilations": (2,), "padding": "same", "kernel_size": 2, "nb_stacks": 2}),
        ("batch_norm", {"nb_filters": 2, "dilations": (1, 2), "use_batch_norm": True, "use_skip_connections": False}),
        ("layer_norm", {"nb_filters": 2, "dilations": (1,), "use_layer_norm": True, "go_backwards": True,
                        "return_sequences": True}),
        ("filters", {"nb_filters": [2, 4], "dilations": (1, 2), "use_skip_connections": False, "padding": "same",
                     "activation": "tanh", "return_sequences": True, "dropout_rate": 0.2}),
    ]  # fmt: skip
    variants = variants if legacy else variants[2:3]
    return [TCN(name=name, **{"nb_filters": 3, "kernel_size": 3, **options}) for name, options in variants]


def weight_norm_layers(k, sources):
    """TCN with the WeightNormalization of TensorFlow Addons, which keras-tcn had up to 3.4."""
    sys.path.insert(0, str(sources / "tcn344"))
    stub("typeguard", typechecked=lambda function: function)
    stub("tensorflow_addons")
    wrappers = load_file(sources / "tensorflow_addons" / "layers" / "wrappers.py", "tensorflow_addons.wrappers")
    stub("tensorflow_addons.layers", WeightNormalization=wrappers.WeightNormalization)
    from tcn import TCN

    options = {"nb_filters": 2, "kernel_size": 2, "use_weight_norm": True, "dilations": (1, 2)}
    return [TCN(name="weight_norm", return_sequences=True, **options),
            TCN(name="weight_norm_masked", padding="same", use_skip_connections=False, **options)]  # fmt: skip


LAYERS = {
    "crf": crf_layers,
    "addons": addons_layers,
    "attention": attention_layers,
    "tcn": tcn_layers,
    "tcn344": weight_norm_layers,
    "tcn3": lambda k, sources: tcn_layers(k, sources, legacy=False),
}


def drawn(rng, variable, array):
    """Other values for a weight; a flag stays."""
    if array.dtype == bool:
        return array
    variance = "variance" in getattr(variable, "path", variable.name)
    return (rng.uniform(0.5, 2, array.shape) if variance else rng.normal(0, 1, array.shape)).astype(array.dtype)


def record(story, sources, folder):
    """Build, save and run one model, in this process."""
    from tensorflow import keras as k

    rng = np.random.default_rng(7)
    x = rng.standard_normal((5, 4, 3)).astype(np.float32)
    x[~MASKS] = 0
    given = k.Input((4, 3), name="x")
    masked = k.layers.Masking(name="masking")(given)
    names, outputs = [], []
    for layer in LAYERS[story](k, sources):
        y = layer(masked if "masked" in layer.name else given)
        parts = list(y) if isinstance(y, (list, tuple)) else [y]
        parts = parts[:3] if story == "addons" else parts  # the fourth is the chain, which has no rows
        names += [f"{layer.name}/{number}" for number in range(len(parts))]
        outputs += parts
    model = k.Model(given, outputs)
    model.predict(x, verbose=0)  # WeightNormalization sets its arrays from the first input
    model.set_weights([drawn(rng, v, w) for v, w in zip(model.weights, model.get_weights())])
    model.save(folder / f"{story}{'.keras' if story.endswith('3') else '.h5'}")
    answers = model.predict(x, verbose=0)
    answers = answers if isinstance(answers, list) else [answers]
    np.savez(folder / f"{story}.npz", x=x, **{name.replace("/", "."): y for name, y in zip(names, answers)})


def main(argv):
    if len(argv) == 3:
        return record(argv[0], Path(argv[1]), Path(argv[2]))
    sources = Path(argv[0]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        for kind, stories in STORIES.items():
            env = {**os.environ, "TF_USE_LEGACY_KERAS": "1" if kind == "legacy" else "0", "CUDA_VISIBLE_DEVICES": "-1"}
            for story in stories:
                subprocess.run([sys.executable, __file__, story, str(sources), folder], env=env, check=True)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path in sorted(Path(folder).iterdir()):
                info = zipfile.ZipInfo(path.name, (1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_LZMA
                archive.writestr(info, path.read_bytes())
        OUT.write_bytes(buffer.getvalue())
    print(f"{OUT.name}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
