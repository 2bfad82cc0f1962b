"""The tensors of a checkpoint: NAME.index, a table of what lies where, and shards NAME.data-00000-of-00001 and so on.

tensorflow/core/protobuf/tensor_bundle.proto describes the entries. A tensor is Stored: its shape and place are checked
at once, its numbers are read, and their checksum is compared, when they are asked for.
"""

import math

import numpy as np

from ...errors import FileFormatError
from ..hdf5 import Budget, Stored, from_bfloat16
from .crc32c import crc32c, masked
from .protobuf import message, repeated, signed, varint
from .table import read_table

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_MAX_INDEX = 64 << 20
_MAX_AXES = 32
_STRING, _BFLOAT16 = 7, 14
# The numbers of TensorFlow's types (types.proto).
_DTYPES = {
    **{1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?"},
    **{_BFLOAT16: "V2", 17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8"},
}


def shape_of(buffer, where):
    """The sizes of a TensorShapeProto."""
    sizes = [signed(message(dim, where, 1)[1]) for _, dim in repeated(buffer, where, 2)]
    if len(sizes) > _MAX_AXES or any(size < 0 for size in sizes):
        raise FileFormatError(f"{where}: damaged (a tensor of shape {tuple(sizes)[:9]})")
    return tuple(sizes)


class Bundle:
    """A checkpoint: `keys` are the names of its tensors.

    Parameters
    ----------
    files : Folder or Members
    name : str
        The name of the checkpoint in it, without .index.
    """

    def __init__(self, files, name):
        self._files, self._name = files, name
        self.where = files.name(f"{name}.index")
        if (size := files.size(f"{name}.index")) > _MAX_INDEX:
            raise FileFormatError(f"{self.where}: an index of {size} bytes; refused")
        self._entries = read_table(files.read(f"{name}.index"), self.where)
        header = message(self._entries.pop(b"", b""), self.where, 1, 2)
        self._n_shards = header[1]
        if not 0 < self._n_shards < 100_000:
            raise FileFormatError(f"{self.where}: damaged (it tells of {self._n_shards} shards)")
        if header[2] != 0:
            raise FileFormatError(f"{self.where}: written on a big-endian machine, which is not supported")
        try:
            self.keys = [key.decode("utf-8") for key in self._entries]
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{self.where}: a key is not UTF-8 ({error})") from error
        self._sizes, self._budget = {}, None

    def _entry(self, key):
        """(Number of the dtype, shape, a function that reads the bytes of a tensor)."""
        where = f"{self.where}: tensor {key!r}"
        if key.encode() not in self._entries:
            raise FileFormatError(f"{where} is missing")
        entry = message(self._entries[key.encode()], where, 1, (2,), 3, 4, 5, 6, (7,))
        if entry[7]:
            raise FileFormatError(
                f"{where} is stored in slices (a partitioned variable), which is not supported; save it as a whole"
            )
        shard, offset, size, checksum = entry[3], entry[4], entry[5], entry[6]
        if shard >= self._n_shards:
            raise FileFormatError(f"{where} is in shard {shard} of {self._n_shards}")
        name = f"{self._name}.data-{shard:05d}-of-{self._n_shards:05d}"
        if name not in self._sizes:
            self._sizes[name] = self._files.size(name)
        if offset + size > self._sizes[name]:
            raise FileFormatError(
                f"{where}: {size} bytes at {offset} are beyond the end of {name}, which has {self._sizes[name]}"
            )
        self._budget = self._budget or Budget(0)
        self._budget.stored = sum(self._sizes.values())
        self._budget.take(size, where)
        return entry[1], shape_of(entry[2], where), size, checksum, lambda: self._files.read_range(name, offset, size)

    def stored(self, key):
        """The tensor of a key, Stored; bfloat16 becomes float32."""
        number, shape, size, checksum, read = self._entry(key)
        where = f"{self.where}: tensor {key!r}"
        if number not in _DTYPES:
            raise FileFormatError(f"{where} has dtype {number} of TensorFlow; expected numbers")
        dtype = np.dtype(_DTYPES[number])
        if math.prod(shape) * dtype.itemsize != size:
            raise FileFormatError(f"{where}: {size} bytes for shape {shape} of {dtype}")

        def numbers():
            content = read()
            if masked(crc32c(content)) != checksum:
                raise FileFormatError(f"{where}: damaged (the checksum of its bytes is wrong)")
            array = np.frombuffer(content, dtype).reshape(shape)
            return from_bfloat16(array) if number == _BFLOAT16 else array.astype(dtype.newbyteorder("="), copy=False)

        return Stored(shape, numbers)

    def strings(self, key):
        """The elements of a tensor of strings, as a list of bytes."""
        number, shape, size, checksum, read = self._entry(key)
        where = f"{self.where}: tensor {key!r}"
        count = math.prod(shape)
        if number != _STRING or count > size:
            raise FileFormatError(f"{where}: {count} elements of dtype {number} in {size} bytes; expected strings")
        content, position, lengths = memoryview(read()), 0, []
        for _ in range(count):
            length, position = varint(content, position, where)
            lengths.append(length)
        if position + 4 + sum(lengths) != size:
            raise FileFormatError(f"{where}: damaged (its strings do not fill its {size} bytes)")
        # The checksum counts the lengths as whole numbers of 4 or 8 bytes.
        sizes = b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths)
        of_lengths = crc32c(sizes)
        stored = int.from_bytes(content[position : position + 4], "little")
        if stored != masked(of_lengths) or checksum != masked(crc32c(content[position:], of_lengths)):
            raise FileFormatError(f"{where}: damaged (the checksum of its bytes is wrong)")
        found, position = [], position + 4
        for length in lengths:
            found.append(bytes(content[position : position + length]))
            position += length
        return found
