"""Chunk: consecutive rows of a file, and their answers; how large one gets. Imports the standard library."""

from __future__ import annotations

import dataclasses
from typing import Any

# Roughly the bytes of a chunk.
CHUNK_BYTES = 8 * 2**20


@dataclasses.dataclass
class Chunk:
    """Consecutive rows of a file, and their answers.

    Attributes
    ----------
    start : int
        Number of the first row in the file, from 0.
    rows : int
    columns : dict of str to array or list, or a pyarrow RecordBatch
    lines : list of int or None
        The line of the file where each row begins, from 1.
    bad : dict of int to str
        The rows without an answer, numbered from 0 in the chunk, and the reasons.
    read : int
        How many bytes from the beginning of the file hold all rows up to the last one of the chunk.
    outputs : dict of str to array or None
        Columns of answers, a value for each row; the values in rows of `unanswered` have no meaning.
    file, file_start : str and int, or None
        Of several files that are read as one: the file of the rows, and the number of the first row in it.
    empty : set of int
        The rows whose text is empty.
    left_out : set of int
        Those of them that get no answer, though nothing is wrong with them.
    """

    start: int
    rows: int
    columns: Any
    lines: list[int] | None = None
    bad: dict[int, str] = dataclasses.field(default_factory=dict)
    read: int = 0
    outputs: dict[str, Any] | None = None
    file: str | None = None
    file_start: int | None = None
    empty: set[int] = dataclasses.field(default_factory=set)
    left_out: set[int] = dataclasses.field(default_factory=set)

    @property
    def unanswered(self) -> set[int]:
        """The rows without an answer."""
        return self.left_out.union(self.bad)

    @property
    def first(self) -> int:
        """The number of the first row in its file."""
        return self.start if self.file_start is None else self.file_start

    def place(self, row: int) -> str:
        """Where a row is, in words."""
        file = f"{self.file}: " if self.file else ""
        line = f" (line {self.lines[row]})" if self.lines else ""
        return f"{file}row {self.first + row}{line}"

    def span(self) -> str:
        """The rows of the chunk, in words."""
        last = dataclasses.replace(self, file=None).place(self.rows - 1)
        return f"{self.place(0)} to {last}"
