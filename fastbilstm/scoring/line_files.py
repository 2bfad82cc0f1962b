"""Files of lines as bytes: standard input, .gz and .zst, other encodings than UTF-8; and packing on the way out.

`LineFile` gives lines in UTF-8, or in an encoding that can be decoded line by line. What it holds in memory is bounded,
whatever a packed file unpacks to. Imports the standard library; for .zst compression.zstd (Python 3.14) or zstandard.
"""

import codecs
import gzip
import io
import os
import shutil
import sys

from ..errors import InputError, MissingExtraError, unreadable

# The name of standard input and of standard output.
STANDARD = "-"
PACKED = {".gz": "gz", ".zst": "zst"}
_MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}
# Bytes that are read, or unpacked and decoded, at once.
_BLOCK = 2**16
# Bytes of .zst that are unpacked at once: a block of zstandard, three bytes at least, unpacks to 128 KB at most.
_PACKED_BLOCK = 2**11


def packing_of(head):
    """The packing of a file that begins with these bytes, "gz" or "zst", or None."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def split_suffix(path):
    """(suffix of the format, packing) of a name: (".csv", "gz") of "a.csv.gz", (".csv", None) of "a.csv"."""
    stem, suffix = os.path.splitext(path)
    packing = PACKED.get(suffix.lower())
    return (os.path.splitext(stem)[1] if packing else suffix).lower(), packing


def check_encoding(name):
    """The encoding under the name that Python gives it; InputError if there is none, or if it makes no text."""
    try:
        found = codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(f"encoding {name!r} (--encoding) is unknown ({error}); utf-8 and cp1252 are two") from error
    return "utf-8" if found.name == "utf-8-sig" else found.name


class LineFile:
    """The lines of a file.

    Attributes
    ----------
    size : int or None
        The bytes of the file; None of standard input.
    encoding : str
        In which `readline` gives its lines.
    given : int
        The bytes of all lines that `readline` gave.
    """

    def __init__(self, path, encoding="utf-8"):
        self.path, self.encoding, self.size = path, check_encoding(encoding), None
        if path == STANDARD:
            if sys.stdin is None:
                raise InputError("-: there is no standard input")
            self.label, raw = "standard input", sys.stdin.buffer
        else:
            self.label, raw = path, open(path, "rb")
            self.size = os.fstat(raw.fileno()).st_size
        try:
            first = raw.read(4)
        except OSError as error:
            _fail(error, self.label)
        self._raw, self.given = raw, 0
        self._counted, self.packing = _Counted(raw, first), packing_of(first)
        file = io.BufferedReader(self._counted, _BLOCK)
        if self.packing is not None:
            file = io.BufferedReader(_unpacking(file, self.packing, self.label), _BLOCK)
        # What ends its lines by other bytes than \n can only be decoded as a whole.
        self._whole = "\n".encode(self.encoding) != b"\n"
        if self._whole:
            file, self.encoding = io.BufferedReader(_Decoded(file, self.encoding), _BLOCK), "utf-8"
        self._file = file

    def readline(self, size):
        """The next line, its first `size` bytes at most, with what ends it; b"" at the end."""
        try:
            line = self._file.readline(size)
        except Exception as error:
            _fail(error, self.label, self.packing)
        self.given += len(line)
        return line

    def head(self):
        """The first byte and those that came with it, which stay unread."""
        try:
            return self._file.peek(1)
        except Exception as error:
            _fail(error, self.label, self.packing)

    def close(self):
        if self.path != STANDARD:
            self._raw.close()

    def bytes_read(self):
        """How many bytes of the file hold all lines that were given."""
        return self._counted.count if self._whole or self.packing else self.given


class _Counted(io.RawIOBase):
    """The bytes of a file, counted. `first`: those that were read before."""

    def __init__(self, file, first):
        self.file, self.first, self.count = file, first, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.first:
            size = len(self.first)  # far less than a buffer
            buffer[:size], self.first = self.first, b""
        else:
            # readinto1 does not wait until the buffer is full, so that rows of a pipe are scored as they come.
            size = self.file.readinto1(buffer)
        self.count += size
        return size


class _Pieces(io.RawIOBase):
    """Bytes that subclasses make piece by piece: `piece()` gives the next, b"" at the end."""

    _held = memoryview(b"")

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._held:
            self._held = memoryview(self.piece())
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size


class _Decoded(_Pieces):
    """A file in another encoding, in UTF-8."""

    def __init__(self, file, encoding):
        self.file, self.encoding, self.decoder = file, encoding, codecs.getincrementaldecoder(encoding)()

    def piece(self):
        while content := self.file.read1(_BLOCK):
            if text := self.decoder.decode(content):
                return text.encode("utf-8")
        return self.decoder.decode(b"", True).encode("utf-8")


class _Zst(_Pieces):
    """What the frames of a .zst hold. EOFError if the last one is not whole: zstandard's own reader says nothing."""

    def __init__(self, zstandard, file):
        self.file, self.make = file, zstandard.ZstdDecompressor().decompressobj
        self.frame, self.rest = None, b""

    def piece(self):
        while content := self.rest or self.file.read1(_PACKED_BLOCK):
            self.frame = self.frame or self.make()
            found = self.frame.decompress(content)
            self.rest = b""
            if self.frame.eof:
                self.rest, self.frame = self.frame.unused_data, None
            if found:
                return found
        if self.frame is not None:
            raise EOFError("the last frame is not whole")
        return b""


def _zstd(label):
    """(compression.zstd, None) or (None, zstandard)."""
    try:
        from compression import zstd

        return zstd, None
    except ImportError:
        pass
    try:
        import zstandard

        return None, zstandard
    except ImportError as error:
        raise MissingExtraError("zstandard", "zstd", f"{label}: .zst") from error


def _unpacking(file, packing, label):
    if packing == "gz":
        return gzip.GzipFile(fileobj=file)
    builtin, zstandard = _zstd(label)
    return builtin.ZstdFile(file) if zstandard is None else _Zst(zstandard, file)


def check_packing(packing, label):
    """MissingExtraError if nothing is installed that packs so."""
    if packing == "zst":
        _zstd(label)


def pack(source, target, packing, label):
    """Copy an open file into another, packed as one member (.gz) or frame (.zst): many readers stop after one."""
    if packing == "gz":
        file = gzip.GzipFile("", "wb", 6, target, mtime=0)
    else:
        builtin, zstandard = _zstd(label)
        if zstandard is None:
            file = builtin.ZstdFile(target, "wb")
        else:
            file = zstandard.ZstdCompressor().stream_writer(target, closefd=False)
    with file:
        shutil.copyfileobj(source, file, _BLOCK)


def _fail(error, label, packing=None):
    """Raise an error of the system, of unpacking or of decoding as one that names the file."""
    if isinstance(error, (InputError, MemoryError)):
        raise error
    if isinstance(error, UnicodeError):
        raise InputError(f"{label}: is no {getattr(error, 'encoding', 'text')} (--encoding): {error}") from error
    # A .gz that is none is an OSError; zlib and zstandard have errors of their own.
    if packing is None or (isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)):
        raise unreadable(label, error) from error
    reason = str(error) or type(error).__name__
    raise InputError(f"{label}: cannot be unpacked ({reason}); is the .{packing} file whole?") from None
