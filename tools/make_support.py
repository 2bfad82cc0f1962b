"""Write docs/support.md: which Keras layers are supported, with which options, compared with which Keras.

    python tools/make_support.py [--check] [--out FILE]

Made from the layer registry (options, what is ignored), the golden cases (what was compared, with whom) and the engine
(what runs a layer in those cases). LAYERS is the list of all layers of Keras 3 and tf_keras; `--check` compares the
committed page instead of writing it, tests/project/test_docs.py does so, too.
"""

import argparse
import collections
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "support.md"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "material")]

# Names of the layer classes in keras.layers 3.15 and tf_keras.layers 2.21 (tests compare it with what is installed).
LAYERS = """
    AbstractRNNCell Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
    AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
    AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D AveragePooling2D
    AveragePooling3D BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate
    ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
    Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D CutMix Dense DenseFeatures
    DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten
    FlaxLayer GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization
    GroupedQueryAttention HashedCrossing Hashing Identity InputLayer IntegerLookup JaxLayer LSTM LSTMCell Lambda
    Layer LayerNormalization LeakyReLU LocallyConnected1D LocallyConnected2D Masking MaxNumBoundingBoxes
    MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply
    Normalization PReLU Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness
    RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing
    RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective
    RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation
    RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding STFTSpectrogram
    SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D
    SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup Subtract TFSMLayer
    TextVectorization ThresholdedReLU TimeDistributed TorchModuleWrapper UnitNormalization UpSampling1D
    UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D
""".split()
# In those modules, but no layers that a file of a model holds: bases, and layers of other frameworks.
BASES = "AbstractRNNCell FlaxLayer JaxLayer Layer TFSMLayer TorchModuleWrapper Wrapper DenseFeatures Pipeline".split()
# Names under which older files hold a layer that is computed by another class.
OLD_NAMES = {
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "TimeDistributedDense": "TimeDistributed",
    "Merge": "Add and so on",
}
# Golden cases looked at for what runs a layer.
_SAMPLES = 6
_RUNS = {
    "vector": "kernel",
    "folded": "folded",
    "dropped": "dropped",
    "elementwise": "NumPy, bits kept",
    "numpy": "NumPy",
    "in a table of projections": "kernel",
    "rows read in place": "kernel",
}

HEAD = """# Supported layers

Made by `python tools/make_support.py` from the layer registry and the golden cases; do not edit.

- **options read**: they decide what is computed; in brackets the only values that are accepted, where not all are.
- **ignored**: stored by Keras, without effect at inference; initializers, regularizers, constraints are ignored
  everywhere. An option that is in neither list is refused by name unless it is empty or false.
- **compared with**: the Keras that answered in the golden cases, and how many there are; *derived* cases were worked
  out by hand from the source of a Keras that no longer installs.
- **runs**: *kernel*, our float32 kernels; *folded* into a layer beside it; *dropped*, nothing to do; *NumPy*, the
  specification, where *bits kept* means that a row's bits do not depend on the batch. "/" where it depends on options.
"""


CONTRIBUTED = """Known by the class name and the options that the package writes, in any package of that name; each is
compared with the answers of the package's own source (`tools/golden/contributed.py`). They run in NumPy. In .h5 files
their arrays must have the names that the package gives them. A class that you register with the same name comes
first. All other classes of their authors (AttLayer, AttentionWithContext, CRFModelWrapper, ...) are refused, because
their config does not say what they compute: copies of AttentionWithContext with the same arrays sum over time or do
not. The refusal prints the `register_layer` call that describes the class, and for attention layers with the usual
arrays the function, too; compare it with your class.
"""


def describe(check):
    """The values that an option's check lets through, in a word or two; '' where all that Keras stores are."""
    name = getattr(check, "__qualname__", "").split(".")[0]
    cells = [cell.cell_contents for cell in getattr(check, "__closure__", None) or ()]
    if name == "choice":
        return ", ".join(map(repr, cells[0]))
    if name == "optional":
        inner = describe(cells[0])
        return f"None, {inner}" if inner else ""
    return ""


def options(cls):
    found = []
    for name, option in cls.options.items():
        allowed = describe(option.check)
        found.append(f"`{name}`" + (f" [{allowed}]" if allowed else ""))
    return ", ".join(found)


def compared(cases):
    """'keras 3.3, 3.15 (12), keras 1.2.2 (3, derived)' of the cases that cover a layer."""
    found = collections.defaultdict(lambda: collections.defaultdict(int))
    for case in cases:
        framework, version = case.writer.split()[:2]
        short = version if case.derived else ".".join(version.split(".")[:2])
        major = f"{framework} 3" if framework == "keras" and version.startswith("3") else framework
        found[major, case.derived][short] += 1
    parts = []
    for (major, derived), versions in sorted(found.items()):
        numbers = sorted(versions, key=lambda text: [int(part) for part in text.split(".") if part.isdigit()])
        count = sum(versions.values())
        parts.append(f"{major.split()[0]} {', '.join(numbers)} ({count}{', derived' if derived else ''})")
    return "; ".join(parts)


def covering(cases):
    """The golden cases by layer class."""
    found = collections.defaultdict(list)
    for case in cases:
        for name in {text.partition(".")[0] for text in case.covers}:
            found[name].append(case)
    return found


def runs(name, cases, cache):
    """What runs a layer, in the golden cases that cover it."""
    import fastbilstm

    step = max(1, len(cases) // _SAMPLES)
    labels = collections.Counter()
    for case in cases[::step][:_SAMPLES]:
        if case.name not in cache:
            cache[case.name] = fastbilstm.load(**case.load_args(), dtype="float32", backend="vector")
        labels.update(_labels(name, cache[case.name]._plan.runner))
    words = [_RUNS.get(label, "kernel" if label.startswith("vector") else label) for label in labels]
    return " / ".join(sorted(set(words)))


def _labels(name, runner):
    for index, layer in enumerate(runner.graph.layers):
        if any(item.class_name == name for _, item in layer.walk()):
            yield runner.labels[index]


def page():
    """The page as text."""
    from cases import CASES

    from fastbilstm.engine.backends import vector_problem
    from fastbilstm.keras.legacy import ALIASES
    from fastbilstm.layers import REGISTRY
    from fastbilstm.layers.quantized import plain_class

    if vector_problem() is not None:
        raise RuntimeError(f"the page tells what the kernels run, and there are none here: {vector_problem()}")
    by_layer, cache = covering(CASES), {}
    # A Lambda needs a function of the user.
    names = sorted(name for name in REGISTRY if "." not in name and name not in ("InputLayer", "ForgetMask", "Lambda"))
    lines = [HEAD, "| layer | options read | ignored | compared with | runs |", "|---|---|---|---|---|"]
    for name in names:
        cls, cases = REGISTRY[name], by_layer.get(name, [])
        ignored = ", ".join(f"`{option}`" for option in cls.ignored)
        seen = compared(cases) if cases else "**not yet**"
        lines.append(f"| {name} | {options(cls)} | {ignored} | {seen} | {runs(name, cases, cache)} |")
    lines += ["", "Read as one of these, under the name of older files: "]
    old = [f"{old} ({new}, {compared(by_layer[old])})" for old, new in OLD_NAMES.items() if by_layer.get(old)]
    lines[-1] += "; ".join(old) + "."
    for mode in ("int8", "int4"):
        cases = [case for case in CASES if f"quantization={mode}" in case.covers]
        kinds = sorted({plain_class(name) for name in REGISTRY if name.startswith(f"{mode}.")})
        lines += ["", f"With {mode} weights (`model.quantize`): {', '.join(kinds)}; compared with {compared(cases)}."]
    half = [case for case in CASES if any(tag.startswith("dtype=") for tag in case.covers)]
    policies = sorted({tag[6:] for case in half for tag in case.covers if tag.startswith("dtype=")})
    lines += [
        "",
        f"Dtype policies: {', '.join(policies)}; compared with {compared(half)}. All but float64 are computed in",
    ]
    lines += ["float32, which is more exact than Keras' half precision (`fastbilstm/tolerances.py`)."]
    operations = sorted(name.removeprefix("ops.") for name in REGISTRY if name.startswith("ops."))
    lines += [
        "",
        "## Operations",
        "",
        "Nodes that Keras writes for `keras.ops` and masks: " + ", ".join(operations) + ".",
    ]
    lines += contributed()
    read = {"InputLayer", *BASES, *(alias for alias, name in ALIASES.items() if name in names)}
    refused = [name for name in LAYERS if name not in {*names, *read}]
    lines += ["", "## Refused", "", "Each by its name, with all else that a model holds and that is not supported: "]
    lines[-1] += ", ".join(refused) + "; subclassed models; and classes of their authors."
    return "\n".join(lines) + "\n"


def contributed():
    """The lines of the table of classes of other packages."""
    from fastbilstm.layers import REGISTRY
    from fastbilstm.layers.contributed import CLASSES

    lines = ["", "## Classes of other packages", "", CONTRIBUTED, "| class | options read | ignored | mask | source |"]
    lines.append("|---|---|---|---|---|")
    for name, rows in sorted(CLASSES.items()):
        for key, _ in rows:
            cls = REGISTRY[key]
            ignored = ", ".join(f"`{option}`" for option in cls.ignored if option != "activity_regularizer")
            lines.append(f"| {name} | {options(cls)} | {ignored} | {cls.mask_text} | {cls.source} |")
    return lines


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say whether the committed page is up to date")
    parser.add_argument("--out", type=Path, default=PAGE, help="file to write (default: docs/support.md)")
    args = parser.parse_args(argv)
    text = page()
    if args.check:
        same = args.out.exists() and args.out.read_text(encoding="utf-8") == text
        print(f"{args.out}: {'up to date' if same else 'out of date; run tools/make_support.py'}")
        return 0 if same else 1
    args.out.write_text(text, encoding="utf-8")
    print(f"{args.out}: {text.count(chr(10))} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
