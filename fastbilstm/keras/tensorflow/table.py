"""The index of a checkpoint: a sorted table of keys and values in the format of LevelDB (doc/table_format.md there).

Blocks of entries, an index of the blocks, and a footer. A block has its checksum behind it. Knows no meaning of keys.
"""

import itertools

from ...errors import FileFormatError
from ..hdf5 import Budget
from .crc32c import crc32c, masked
from .protobuf import varint

MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48
_TRAILER = 5  # the kind of compression, and the checksum
_MAX_KEY = 1 << 16


def read_table(content, where):
    """{key: value} of a table, both bytes, in the order of the keys."""
    if len(content) < _FOOTER or content[-len(MAGIC) :] != MAGIC:
        raise FileFormatError(f"{where}: no index of a TensorFlow checkpoint, or cut off (its last 8 bytes are wrong)")
    view = memoryview(content)
    footer = view[-_FOOTER : -len(MAGIC)]
    _, _, position = _handle(footer, 0, where)  # of the block of filters, which are not needed
    offset, size, _ = _handle(footer, position, where)
    budget, found, end = Budget(len(content)), {}, 0
    last = None
    for _, handle in _entries(_block(view, offset, size, where), budget, where):
        offset, size, _ = _handle(handle, 0, where)
        if offset < end:
            raise FileFormatError(f"{where}: damaged (two blocks overlap)")
        end = offset + size
        for key, value in _entries(_block(view, offset, size, where), budget, where):
            if last is not None and key <= last:
                raise FileFormatError(f"{where}: damaged (its keys are not in order)")
            found[key], last = bytes(value), key
    return found


def _handle(buffer, position, where):
    """(Offset and size of a block, the position behind them.)"""
    offset, position = varint(buffer, position, where)
    size, position = varint(buffer, position, where)
    return offset, size, position


def _block(view, offset, size, where):
    """The content of a block, after a check of its place and its checksum."""
    end = offset + size
    if end + _TRAILER > len(view) - _FOOTER:
        raise FileFormatError(f"{where}: damaged or cut off (a block at {offset} of {size} bytes is beyond the end)")
    if int.from_bytes(view[end + 1 : end + _TRAILER], "little") != masked(crc32c(view[offset : end + 1])):
        raise FileFormatError(f"{where}: damaged (the checksum of the block at {offset} is wrong)")
    if view[end] != 0:
        kind = "Snappy" if view[end] == 1 else f"method {view[end]}"
        raise FileFormatError(
            f"{where}: is compressed with {kind}, which is not supported and which TensorFlow does not write; save the "
            "weights again"
        )
    return view[offset:end]


def _entries(block, budget, where):
    """Yield (key, value) of a block; each key is stored as what differs from the one before it."""
    restarts = int.from_bytes(block[-4:], "little") if len(block) >= 4 else -1
    limit = len(block) - 4 * (restarts + 1)
    if restarts < 0 or limit < 0:
        raise FileFormatError(f"{where}: damaged (a block ends in {restarts} restarts)")
    position, key = 0, b""
    block = block[:limit]
    while position < limit:
        sizes = []
        for _ in itertools.repeat(None, 3):
            size, position = varint(block, position, where)
            sizes.append(size)
        shared, rest, length = sizes
        if shared > len(key) or rest + length > limit - position or shared + rest > _MAX_KEY:
            raise FileFormatError(f"{where}: damaged (an entry is longer than its block, or than the key before)")
        budget.take(shared + rest + length, where)
        key = key[:shared] + bytes(block[position : position + rest])
        position += rest
        yield key, block[position : position + length]
        position += length
