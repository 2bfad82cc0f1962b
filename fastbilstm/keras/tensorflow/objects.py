"""Graphs of objects: the tree of a model as TensorFlow stores it, with the attributes of Python as the names of edges.

A checkpoint holds a TrackableObjectGraph (trackable_object_graph.proto): an object has children and keys of tensors.
saved_model.pb holds a SavedObjectGraph (saved_object_graph.proto): an object has children, and what kind it is. An
object is read when it is asked for.
"""

from ...errors import FileFormatError
from .protobuf import message, repeated, signed, text


class Objects:
    """The objects of a graph, by number; 0 is the root.

    Parameters
    ----------
    nodes : list of memoryview
        The message of each object.
    where : str
        What messages call the graph.
    """

    def __init__(self, nodes, where):
        self.nodes, self.where = nodes, where
        self._children = {}
        if not nodes:
            raise FileFormatError(f"{where}: holds no objects")

    @classmethod
    def of_checkpoint(cls, bundle, key):
        content = bundle.strings(key)
        where = f"{bundle.where}: object graph"
        if len(content) != 1:
            raise FileFormatError(f"{where}: damaged ({len(content)} strings)")
        return cls([node for _, node in repeated(content[0], where, 1)], where)

    def children(self, number):
        """{name of the attribute: number of the object} in the order of the file."""
        if number not in self._children:
            found = {}
            for _, reference in repeated(self.nodes[number], self.where, 1):
                fields = message(reference, self.where, 1, (2,))
                child = signed(fields[1])
                if not 0 <= child < len(self.nodes):
                    raise FileFormatError(f"{self.where}: damaged (object {number} has the child {child})")
                found[text(fields[2], self.where)] = child
            self._children[number] = found
        return self._children[number]

    def child(self, number, *names):
        """The object at a path of attributes below another; None where one is missing."""
        for name in names:
            number = None if number is None else self.children(number).get(name)
        return number

    def keys(self, number):
        """{name of a saved value: (name of the variable, its key)} of an object; of a variable it is VARIABLE_VALUE."""
        found = {}
        for _, attribute in repeated(self.nodes[number], self.where, 2):
            fields = message(attribute, self.where, (1,), (2,), (3,))
            found[text(fields[1], self.where)] = text(fields[2], self.where), text(fields[3], self.where)
        return found
