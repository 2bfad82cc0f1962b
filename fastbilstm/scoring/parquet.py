"""Reader of Parquet files, one record batch after another. Imports pyarrow where it is used.

A file may claim far more than it holds: row groups that unpack to a thousand times their size, one long text that each
row refers to. What a row group claims is checked before it is read, and texts are counted before they are written out.
"""

import contextlib
import os

from ..errors import InputError, MissingExtraError, unless_missing
from .chunk import CHUNK_BYTES, Chunk

# What is unpacked at once may take at most so many bytes, beyond those of a chunk, for each byte of the file. Rows of
# zeros and repeated texts take few bytes in Parquet.
MAX_RATIO = 1000


def import_pyarrow(what):
    """Import pyarrow; the error tells how to install it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", what) from unless_missing(error)
    return pyarrow


def of_rows(batches, rows):
    """Record batches of so many rows, of batches of any size; the last one may have fewer."""
    held, count = [], 0
    for found in batches:
        while count + found.num_rows >= rows:
            held.append(found.slice(0, rows - count))
            found, count = found.slice(rows - count), 0
            yield _joined(held)
            held = []
        if found.num_rows:
            held.append(found)
            count += found.num_rows
    if held:
        yield _joined(held)


def _joined(batches):
    if len(batches) == 1:
        return batches[0]
    import pyarrow  # imported already

    (batch,) = pyarrow.Table.from_batches(batches).combine_chunks().to_batches()
    return batch


class ParquetReader:
    """Reads a Parquet file as record batches."""

    keeps, note, hint, added = True, None, None, ()

    def __init__(self, path):
        self.path, self.pa, self.read = path, import_pyarrow(f"{path}: Parquet"), 0
        self.group = self.group_rows = self.group_end = 0
        try:
            self.size, self.file = os.path.getsize(path), self.pa.parquet.ParquetFile(path)
            self.texts = {field.name: field.type for field in self.file.schema_arrow if self._is_text(field.type)}
            if self.texts:  # as numbers of texts, which take little memory if one text is repeated
                self.file = self.pa.parquet.ParquetFile(path, read_dictionary=list(self.texts))
            self.names, self.total = list(self.file.schema_arrow.names), self.file.metadata.num_rows
        except MemoryError:
            raise
        except Exception as error:  # of Arrow, from any damaged byte
            raise InputError(f"{path}: is no Parquet file that can be read ({error})") from error
        if len(set(self.names)) < len(self.names):
            raise InputError(f"{path}: two columns have the same name ({', '.join(self.names)})")

    def chunks(self, rows, batch):
        with self._naming():
            metadata = self.file.metadata
            sizes = [metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups)]
            self._check_size(max(sizes, default=0), "a row group")
            width = max(1, sum(sizes))
            rows = max(batch, min(rows, CHUNK_BYTES * max(1, self.total) // width) // batch * batch)
            batches = self._batches(rows)
        while True:
            with self._naming():
                found = next(batches, None)
                if found is None:
                    break
                start, self.read = self.read, self.read + found.num_rows
                chunk = Chunk(start, found.num_rows, found, read=self._bytes_read())
            yield chunk
        if not self.read:
            with self._naming():
                schema = self.file.schema_arrow
                none = [self.pa.array([], field.type) for field in schema]
                chunk = Chunk(0, 0, self._plain(self.pa.record_batch(none, schema=schema)))
            yield chunk

    def _batches(self, rows):
        """Yield batches of so many rows; the last one may have fewer."""

        def plain():
            for found in self.file.iter_batches(batch_size=rows):
                found.validate(full=True)
                yield self._plain(found)

        return of_rows(plain(), rows)

    def _check_size(self, claimed, what):
        """Refuse what takes far more memory than the bytes of the file, beyond those of a chunk."""
        if claimed - CHUNK_BYTES > MAX_RATIO * self.size:
            raise InputError(
                f"{self.path}, {what}: claims {claimed} bytes at once where the file has {self.size}; refused"
            )

    @contextlib.contextmanager
    def _naming(self):
        """Make errors name the file and the row."""
        try:
            yield
        except (InputError, MemoryError):
            raise
        except Exception as error:  # of Arrow, from any damaged byte
            raise InputError(
                f"{self.path}: cannot be read from row {self.read} on ({error}); is it damaged?"
            ) from error

    def _bytes_read(self):
        """The bytes of all row groups that have been read."""
        metadata = self.file.metadata
        while self.group < metadata.num_row_groups and self.group_rows < self.read:
            group = metadata.row_group(self.group)
            for column in map(group.column, range(group.num_columns)):
                pages = (column.dictionary_page_offset, column.data_page_offset)
                begin = min(offset for offset in pages if offset is not None)
                self.group_end = max(self.group_end, begin + column.total_compressed_size)
            self.group, self.group_rows = self.group + 1, self.group_rows + group.num_rows
        return self.group_end

    def _plain(self, batch):
        """The batch with dictionary-encoded columns decoded."""
        arrays = [
            self._decoded(array, name) if self.pa.types.is_dictionary(array.type) else array
            for array, name in zip(batch.columns, batch.schema.names)
        ]
        return self.pa.record_batch(arrays, names=batch.schema.names)

    def _decoded(self, array, name):
        if self._is_text(array.dictionary.type):
            from pyarrow import compute

            sizes = compute.binary_length(array.dictionary).cast("int64").take(array.indices)
            self._check_size(compute.sum(sizes).as_py() or 0, f"column {name!r}")
        decoded = array.dictionary_decode()
        return decoded.cast(self.texts.get(name, decoded.type))

    def _is_text(self, kind):
        return any(
            kind == text() for text in (self.pa.string, self.pa.binary, self.pa.large_string, self.pa.large_binary)
        )

    def position(self):
        return self.read / max(1, self.total)

    def close(self):
        self.file.close()
