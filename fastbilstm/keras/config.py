"""The architecture of a model, as config dictionaries of Keras -> a Graph without weights, and what is not supported.

Reads Sequential and functional models of all versions, and models inside them. layer_config.py reads their layers.
Knows no files.
"""

from ..errors import FileFormatError, UnsupportedLayerError
from ..graph import Input
from .assemble import assemble, outputs_of
from .layer_config import MODELS, LayerReader
from .mask_removal import forget_masks
from .nodes import RECURRENT, Call, Pending, map_pending, nested_ends, pending_in, reference
from .precision import policy_name

# Subclassed models that hold a functional one, with a loss of their own.
_CRF_WRAPPERS = ("CRFModelWrapper", "ModelWithCRFLoss", "ModelWithCRFLossDSCLoss")


def split_config(config, label):
    """Return (class name, config) of a whole model's description; Keras 1 and 2 wrap it in different ways."""
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise FileFormatError(f"{label}: the architecture is no Keras model (no class_name and config)")
    if not isinstance(config["class_name"], str):
        raise FileFormatError(f"{label}: the architecture has class_name {str(config['class_name'])[:60]}")
    return config["class_name"], config["config"]


class ConfigReader(LayerReader):
    """Reads models; LayerReader reads their layers."""

    def read_model(self, class_name, config, path=(), name=None, outputs=None):
        """Read a whole model, or a model inside it; `outputs` names the layers at which it is cut."""
        if class_name == "Sequential":
            return self._read_sequential(config, path, name, outputs)
        if class_name not in MODELS:
            text = "is no Sequential or functional model: a subclassed model has no architecture in its file"
            if class_name.rsplit(">", 1)[-1] in _CRF_WRAPPERS:
                text += (
                    ". Save the model without its wrapper: keras.Model(base.input, crf(base.output)) with its "
                    "base_model and its CRF layer"
                )
            raise UnsupportedLayerError([f"model ({class_name}) {text}"], self.label)
        return self._read_functional(config, path, name, outputs)

    def _read_sequential(self, config, path, name, outputs):
        if isinstance(config, list):
            config = {"layers": config}
        entries = config.get("layers")
        if not isinstance(entries, list) or not entries:
            self.malformed(f"Sequential model {name or ''!r} has no layers")
        if not all(isinstance(entry, dict) and isinstance(entry.get("config"), (dict, list)) for entry in entries):
            self.malformed(f"Sequential model {name or ''!r}: a layer has no class_name and config")
        name = name or str(config.get("name") or "sequential")
        sources, built, calls = [], [], {}
        end = self._read_chain(config, path, sources, built, calls)
        ends, structure = ([end], "single") if isinstance(end, Pending) else (end, outputs_of(built[-1])[1])
        return self._assemble(path, name, sources, built, calls, ends, structure, outputs)

    def _read_chain(self, config, path, sources, built, calls):
        """Add the layers of a Sequential, each called on the output of the one before; return what the last gives.

        Keras 1 has Sequential models that begin with a Merge of other Sequential models: their layers are added, too.
        """
        previous = None
        for number, entry in enumerate(config["layers"]):
            is_input = entry.get("class_name") == "InputLayer"
            towers = entry["config"].get("layers") if entry.get("class_name") == "Merge" and number == 0 else None
            if towers:
                previous = []
                for tower in towers:
                    if not isinstance(tower, dict) or tower.get("class_name") != "Sequential":
                        self.malformed(f"layer {entry['config'].get('name')!r} (Merge): it merges no Sequential models")
                    chain = tower["config"] if isinstance(tower["config"], dict) else {"layers": tower["config"]}
                    previous.append(self._read_chain(chain, path, sources, built, calls))
                entry = {**entry, "config": {k: v for k, v in entry["config"].items() if k != "layers"}}
            elif number == 0:
                source = self._sequential_input(entry, config, is_input, path)
                if source not in sources:  # branches may begin with one layer
                    sources.append(source)
                previous = Pending(source.name, 0, 0)
            if is_input:
                continue
            layer = self.read_layer(entry, path)
            # In Keras 1 branches may share a layer; its entry stands in each of them.
            shared = self.version.framework == "keras1" and layer in built
            if layer.name in calls and not shared:
                self.malformed(f"Sequential model: two layers share the name {layer.name!r}")
            if isinstance(previous, list) and layer.class_name in RECURRENT:
                self.malformed(f"Sequential model: layer {layer.name!r} is called with {len(previous)} tensors")
            if not shared:
                built.append(layer)
            call, made = Call(layer.name, (previous,), {}), calls.setdefault(layer.name, [])
            if call not in made:
                made.append(call)
            count, n = outputs_of(layer)[0], made.index(call)
            # Keras 3 passes on all tensors that a layer gives.
            previous = [Pending(layer.name, n, k) for k in range(count)] if count > 1 else Pending(layer.name, n, 0)
        return previous

    def _sequential_input(self, entry, config, is_input, path):
        first = (entry.get("config") if isinstance(entry, dict) else None) or {}
        first = first if isinstance(first, dict) else {}
        shape = first.get("batch_input_shape") or first.get("batch_shape")
        if shape is None and first.get("layer"):
            inner = (first["layer"] or {}).get("config") or {}
            shape = inner.get("batch_input_shape") if isinstance(inner, dict) else None
        if shape is None and not is_input:
            shape = config.get("build_input_shape") or (entry.get("build_config") or {}).get("input_shape")
            if shape and isinstance(shape[0], (list, tuple)):
                shape = shape[0]
        dtype = first.get("input_dtype") or first.get("dtype")
        if entry.get("class_name") in MODELS and shape is None:
            inner = self.read_model(entry["class_name"], entry["config"], path, "first")
            shape, dtype = inner.inputs[0].shape, inner.inputs[0].dtype
            self.problems = {k: v for k, v in self.problems.items() if k != "first"}
        name = str(first.get("name") or "layer")
        return self._input(name if is_input else f"{name}_input", shape, dtype)

    def _input(self, name, shape, dtype):
        dtype = policy_name(dtype)
        dtype = {None: "float32", "mixed_float16": "float32", "mixed_bfloat16": "float32"}.get(dtype, dtype)
        if not isinstance(dtype, str) or not dtype.startswith(("float", "bfloat", "int", "uint", "bool", "string")):
            self.problem((name,), "InputLayer", "dtype", dtype, "is not supported")
        self.input_dtypes.add(dtype)
        if shape is None:
            return Input(name, None, dtype)
        if not isinstance(shape, (list, tuple)) or not all(
            d is None or (isinstance(d, int) and not isinstance(d, bool) and d >= 0) for d in shape
        ):
            self.malformed(f"input {name!r} has shape {shape!r}")
        return Input(name, tuple(shape), str(dtype))

    def _read_functional(self, config, path, name, outputs):
        if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            self.malformed(f"functional model {name or ''!r} has no list of layers")
        name = name or str(config.get("name") or "model")
        entries = config["layers"]
        names = [str(e.get("name") or (e.get("config") or {}).get("name")) for e in entries if isinstance(e, dict)]
        if len(names) != len(entries) or len(set(names)) != len(names):
            self.malformed(f"functional model {name!r}: two layers share a name, or one is no dictionary")
        known, built, sources, calls = set(names), [], {}, {}
        for layer_name, entry in zip(names, entries):
            where = f"{self.label}: layer {'/'.join((*path, layer_name))!r}"
            if entry.get("class_name") == "InputLayer":
                options = entry.get("config") or {}
                shape = options.get("batch_input_shape") or options.get("batch_shape")
                sources[layer_name] = self._input(layer_name, shape, options.get("dtype"))
                for option in ("sparse", "ragged"):
                    if options.get(option):
                        self.problem((*path, layer_name), "InputLayer", option, True, "is not supported")
                continue
            layer = self.read_layer(entry, path, layer_name)
            built.append(layer)
            calls[layer_name] = self._read_op_calls(layer, entry, known, where, (*path, layer_name))
        where = f"{self.label}: model {name!r}"
        ends, structure = nested_ends(config.get("output_layers"), known, where) or self._ends(
            config.get("output_layers"), known, where
        )
        starts, input_structure = nested_ends(config.get("input_layers"), known, where) or self._ends(
            config.get("input_layers"), known, where
        )
        for start in starts:
            if start.layer not in sources:
                self.malformed(f"model {name!r}: input layer {start.layer!r} is no InputLayer")
        inputs = [sources[start.layer] for start in starts]
        self._renumber(built, calls, ends, {n for n, e in zip(names, entries) if e.get("class_name") == "Sequential"})
        graph = self._assemble(path, name, inputs, built, calls, ends, structure, outputs)
        return graph.replace(input_structure=input_structure)

    def _ends(self, entry, names, where):
        """input_layers or output_layers: one [name, call, tensor], a list or a dict of them."""
        if isinstance(entry, list) and entry and isinstance(entry[0], str):
            return [reference(entry, names, where)], "single"
        if isinstance(entry, dict) and entry:
            keys = list(entry)
            return [reference(entry[key], names, where) for key in keys], "dict:" + "\0".join(keys)
        if not isinstance(entry, list) or not entry:
            raise FileFormatError(f"{where}: input_layers or output_layers is {str(entry)[:60]}")
        return [reference(item, names, where) for item in entry], "list"

    def _assemble(self, path, name, inputs, built, calls, ends, structure, outputs):
        shared = {given.name for given in inputs} & {layer.name for layer in built}
        if shared:
            self.malformed(f"model {name!r}: an input and a layer share the name {min(shared)!r}")
        graph = assemble(self.version, self.label, name, inputs, built, calls, ends, structure, outputs)
        graph = forget_masks(graph, inside=bool(path))
        self.kept = {layer.name for layer in graph.layers} | {given.name for given in graph.inputs}
        return graph

    def _renumber(self, built, calls, ends, sequential):
        """Number the calls of a model inside a model from 0.

        Keras 2 numbers them from 1 (call 0 built it) or from 0; Keras 3 from 0, save in output_layers, where those of a
        functional model count from 1.
        """
        used = [p for found in calls.values() for call in found for p in pending_in((call.args, call.kwargs))] + ends
        numbers = {layer.name: set() for layer in built if layer.graph is not None}
        for p in used:
            if p.layer in numbers:
                numbers[p.layer].add(p.call)
        counted = {name for name, found in numbers.items() if found and (self.version.is_keras3 or 0 not in found)}

        def shift(p):
            return Pending(p.layer, p.call - 1, p.tensor) if p.layer in counted else p

        if self.version.is_keras3:
            counted -= sequential
        elif counted:
            for key, found in calls.items():
                calls[key] = [Call(c.layer, map_pending(shift, c.args), map_pending(shift, c.kwargs)) for c in found]
        ends[:] = map_pending(shift, ends)
