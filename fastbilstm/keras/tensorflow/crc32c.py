"""CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints, over whole arrays with NumPy.

A checksum is linear: that of a message is the exclusive or of those of its parts, each advanced over the zeros in place
of what follows. So a message is folded: its first half, advanced over as many bytes as the second half has, is added to
the second half, word by word, until one word is left.
"""

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # bits reversed
_MASK = 0xA282EAD8
# The words that are folded onto the following ones at a time: they and the tables stay in the cache.
_LANES = 1 << 14


@functools.cache
def _byte_table():
    """The checksum of each byte, before and after it zeros."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(_POLYNOMIAL), values >> 1).astype(np.uint32)
    return values


@functools.cache
def _tables(words):
    """(4, 256) tables that advance a checksum over `words` words of zeros, a power of two: one for each byte of it."""
    if words == 1:
        values = np.uint32(1) << np.arange(32, dtype=np.uint32)
        for _ in range(4):
            values = (values >> 8) ^ _byte_table()[values & 0xFF]
    else:
        half = _tables(words // 2)
        values = _advance(half, np.array([half[bit // 8, 1 << bit % 8] for bit in range(32)], "<u4"))
    tables = np.zeros((4, 256), "<u4")
    for bit, value in enumerate(values):
        size = 1 << bit % 8
        tables[bit // 8, size : 2 * size] = tables[bit // 8, :size] ^ value
    return tables


def _advance(tables, words):
    """Words, each advanced by tables of `_tables`."""
    parts = words.view(np.uint8).reshape(-1, 4)
    result = tables[0].take(parts[:, 0])
    for byte in range(1, 4):
        result ^= tables[byte].take(parts[:, byte])
    return result


def crc32c(content, start=0):
    """The checksum of bytes, or of a C-contiguous array of bytes; `start`: that of what stands before them."""
    content = np.frombuffer(content, np.uint8)
    state = start ^ 0xFFFF_FFFF
    whole = len(content) // 4
    if whole:
        state = _fold(content[: 4 * whole].view("<u4"), state)
    table = _byte_table()
    for byte in content[4 * whole :].tolist():
        state = state >> 8 ^ int(table[(state ^ byte) & 0xFF])
    return state ^ 0xFFFF_FFFF


def _fold(words, state):
    """The register after these words, from the one before them."""
    # Zeros in front change nothing, so the first row may be filled up; the register is added to the first word.
    rest = len(words) % _LANES
    lanes = _LANES if len(words) > _LANES else 1 << (len(words) - 1).bit_length()
    first = rest or lanes
    folded = np.zeros(lanes, "<u4")
    folded[lanes - first :] = words[:first]
    folded[lanes - first] ^= np.uint32(state)
    tables = _tables(lanes)
    for begin in range(first, len(words), lanes):
        folded = _advance(tables, folded) ^ words[begin : begin + lanes]
    while len(folded) > 1:
        half = len(folded) // 2
        folded = _advance(_tables(half), folded[:half]) ^ folded[half:]
    return int(_advance(_tables(1), folded)[0])


def masked(checksum):
    """The form in which checksums are stored, so that those of data that holds checksums are not degenerate."""
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFF_FFFF
