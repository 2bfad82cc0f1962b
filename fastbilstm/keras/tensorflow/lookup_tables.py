"""What lookup layers learned in `adapt`, out of a SavedModel, in the form of the assets of .keras archives.

A table that may grow is a tensor of the checkpoint. One that may not is made by a function of the program, whose
constants hold its keys and values: they are read, the function is not run.
"""

import numpy as np

from ...errors import FileFormatError
from ..object_paths import snake_case
from .objects import Objects
from .protobuf import fields, message, repeated, signed, text, varint

LOOKUPS = ("TextVectorization", "StringLookup", "IntegerLookup")
_INT64, _STRING = 9, 7


def vocabularies_of(tables, nodes, names):
    """{path below assets/: content} for the lookup layers of the model itself.

    `nodes`: the object of each layer by its name; `names`: Keras' class names of all layers, in order.
    """
    counters, contents = {}, {}
    for name, class_name in names.items():
        snake = snake_case(class_name[0] if isinstance(class_name, tuple) else class_name)
        number = counters.get(snake, 0)
        counters[snake] = number + 1
        if class_name in LOOKUPS and name in nodes:
            found = tables.below(nodes[name])
            if found is not None:
                tokens = _in_order(*found, class_name == "IntegerLookup", tables.where)
                contents[f"layers/{snake}" + (f"_{number}" if number else "")] = b"\n".join(tokens)
    return contents


def _in_order(keys, values, whole, where):
    """The learned tokens in the order of their numbers; those for padding and unknown words stand before them."""
    first = min(values)
    if len(keys) != len(values) or sorted(values) != list(range(first, first + len(values))):
        raise FileFormatError(f"{where}: a table of a lookup layer does not number its tokens in turn")
    return [b"%d" % token if whole else token for _, token in sorted(zip(values, keys))]


class Tables:
    """The tables of a SavedModel."""

    def __init__(self, program, where, bundle, objects):
        self.where, self.bundle, self.saved = where, bundle, objects
        meta_graph = next((content for _, content in repeated(program, where, 2)), b"")
        self.graph, tree = message(meta_graph, where, (2,), (7,)).values()
        nodes = [node for _, node in repeated(tree, where, 1)]
        self.objects = Objects(nodes, where) if nodes else None
        self.functions = tree

    def below(self, node):
        """(keys, values) of the first table below a layer that holds tokens; None if none does."""
        seen, stack = set(), [node]
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            for attribute, child in self.saved.children(number).items():
                # It counts tokens while `adapt` runs.
                if attribute != "token_counts":
                    found = self._stored(child) or self._made(child)
                    if found is not None and len(found[0]):
                        return found
                    stack.append(child)
        return None

    def _stored(self, node):
        for _, key in self.saved.keys(node).values():
            if key.endswith("table-keys"):
                values = self.bundle.stored(key.removesuffix("-keys") + "-values").read().tolist()
                try:
                    return self.bundle.strings(key), values
                except FileFormatError:
                    return self.bundle.stored(key).read().tolist(), values
        return None

    def _made(self, node):
        """From the constants that the table's initializer captures: its keys, then its values."""
        if self.objects is None or node >= len(self.objects.nodes):
            return None
        begin = self.objects.child(node, "_initialize")
        if begin is None:
            return None
        names = [
            text(name, self.where)
            for _, function in repeated(self.objects.nodes[begin], self.where, 6)
            for _, name in repeated(function, self.where, 1)
        ]
        operations = [self._operation(number) for name in names[:1] for number in self._captured(name)]
        found = [self._constant(name) for name in operations if name]
        return tuple(found) if len(found) == 2 else None

    def _captured(self, name):
        """The objects that a function captures."""
        for _, entry in repeated(self.functions, self.where, 2):
            pair = message(entry, self.where, (1,), (2,))
            if bytes(pair[1]) == name.encode():
                return [number for key, value in fields(pair[2], self.where) if key == 2 for number in _numbers(value)]
        return []

    def _operation(self, number):
        """The name of the operation of an object that is a constant, else None."""
        if not 0 <= number < len(self.objects.nodes):
            raise FileFormatError(f"{self.where}: damaged (a function captures object {number})")
        found = [content for _, content in repeated(self.objects.nodes[number], self.where, 9)]
        return bytes(message(found[0], self.where, (1,))[1]) if found else None

    def _constant(self, name):
        """The elements of a constant of the program: bytes or whole numbers."""
        for _, node in repeated(self.graph, self.where, 1):
            if bytes(message(node, self.where, (1,))[1]) != name:
                continue
            for _, attribute in repeated(node, self.where, 5):
                pair = message(attribute, self.where, (1,), (2,))
                if bytes(pair[1]) == b"value":
                    tensor = message(pair[2], self.where, (8,))[8]
                    return self._elements(tensor)
        raise FileFormatError(f"{self.where}: damaged (the constant {name.decode('utf-8', 'replace')!r} is missing)")

    def _elements(self, tensor):
        kind = message(tensor, self.where, 1, (4,))
        if kind[1] == _STRING:
            return [
                bytes(value) for key, value in fields(tensor, self.where) if key == 8 and not isinstance(value, int)
            ]
        if kind[1] != _INT64 or len(kind[4]) % 8:
            raise FileFormatError(f"{self.where}: a table of a lookup layer holds neither texts nor whole numbers")
        if len(kind[4]):
            return np.frombuffer(kind[4], "<i8").tolist()
        return [signed(n) for key, value in fields(tensor, self.where) if key == 10 for n in _numbers(value)]


def _numbers(value):
    """The numbers of a repeated field: one, or several packed into bytes."""
    if isinstance(value, int):
        return [value]
    position, found = 0, []
    while position < len(value):
        number, position = varint(value, position, "a packed field")
        found.append(number)
    return found
