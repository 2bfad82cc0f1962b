"""Chunk: rows of a file in order, and what became of them. Imports the standard library."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Chunk:
    """Rows of a file, in order, and what became of them.

    Attributes
    ----------
    start : int
        Number of the first row in the file, from 0.
    rows : int
    columns : dict of str to array or list, or a pyarrow RecordBatch
    lines : list of int or None
        The line of the file that each row begins at, from 1.
    bad : dict of int to str
        Rows (within the chunk) without an answer, and the reasons.
    read : int
        Bytes of the file, from its beginning, that hold all rows up to the last of these.
    outputs : dict of str to array or None
        Columns of the answers, a value for each row; rows of `bad` hold nothing of meaning.
    """

    start: int
    rows: int
    columns: Any
    lines: list[int] | None = None
    bad: dict[int, str] = dataclasses.field(default_factory=dict)
    read: int = 0
    outputs: dict[str, Any] | None = None

    def place(self, row: int) -> str:
        """Where a row is, in words."""
        line = f" (line {self.lines[row]})" if self.lines else ""
        return f"row {self.start + row}{line}"

    def span(self) -> str:
        """All of its rows, in words."""
        return f"{self.place(0)} to {self.place(self.rows - 1)}"
