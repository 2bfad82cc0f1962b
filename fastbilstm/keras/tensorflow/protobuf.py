"""Protobuf's wire format: a message as its fields, every length checked. Knows no message types.

https://protobuf.dev/programming-guides/encoding: a field is a varint of its number and wire type, and then its value.
Numbers are yielded as int, everything else as the bytes (a memoryview) that hold a text or message. Nothing is copied.
"""

from ...errors import FileFormatError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def varint(buffer, position, where):
    """(The unsigned number at a position, the position behind it.)"""
    value = shift = 0
    while position < len(buffer) and shift < 70:
        byte = buffer[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise FileFormatError(f"{where}: damaged (a number does not end)")


def fields(buffer, where):
    """Yield (field number, value) of a message: an unsigned int, or a memoryview."""
    buffer, position = memoryview(buffer), 0
    while position < len(buffer):
        tag, position = varint(buffer, position, where)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = varint(buffer, position, where)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = varint(buffer, position, where)
        else:
            size = {_FIXED32: 4, _FIXED64: 8}.get(kind)
        if number == 0 or size is None:
            raise FileFormatError(f"{where}: damaged (a field has number {number} and wire type {kind})")
        if size > len(buffer) - position:
            raise FileFormatError(f"{where}: damaged (a field of {size} bytes, {len(buffer) - position} are left)")
        value = buffer[position : position + size]
        yield number, (value if kind == _BYTES else int.from_bytes(value, "little"))
        position += size


def message(buffer, where, *wanted):
    """{field number: last value} of the fields wanted; numbers that are missing are 0, bytes that are missing empty.

    `wanted`: the number of a field that holds a number, or (number,) of one that holds bytes.
    """
    kinds = {entry[0] if isinstance(entry, tuple) else entry: isinstance(entry, tuple) for entry in wanted}
    found = {number: memoryview(b"") if is_bytes else 0 for number, is_bytes in kinds.items()}
    for number, value in fields(buffer, where):
        if number in kinds:
            if isinstance(value, int) == kinds[number]:
                raise FileFormatError(f"{where}: damaged (field {number} has another wire type)")
            found[number] = value
    return found


def repeated(buffer, where, *numbers):
    """Yield (field number, bytes) of the fields that hold texts or messages and have one of these numbers."""
    for number, value in fields(buffer, where):
        if number in numbers:
            if isinstance(value, int):
                raise FileFormatError(f"{where}: damaged (field {number} has another wire type)")
            yield number, value


def signed(value):
    """An int64 or int32 field, from the unsigned number that its varint holds."""
    return value - (1 << 64) if value >> 63 else value


def text(value, where):
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{where}: a text is not UTF-8 ({error})") from error
