"""Every error that fastbilstm raises on purpose. Imports nothing of the package.

All of them derive from FastBiLSTMError, which is a ValueError, so a caller that only wants to know "it did not work"
catches one class.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


# Before the calls of `register_layer` that an error prints.
_HOW_TO_REGISTER = (
    "A class is described by a call of register_layer before loading, in your program or in a module that --plugin "
    "(plugins=) names; see 'Classes that are not Keras' own' in docs/using.md:"
)


class FastBiLSTMError(ValueError):
    """Base of all errors raised on purpose by this package."""


class FileFormatError(FastBiLSTMError):
    """A file cannot be read: truncated, of an unknown kind, malformed or inconsistent."""


class InputError(FastBiLSTMError):
    """The arrays given to predict do not fit the model."""


class UnreadableFileError(FileFormatError, InputError, OSError):
    """The system does not let a file be read, of a model or of rows; `errno`, `strerror` and `filename` say why."""

    def __new__(cls, *args: Any, **options: Any) -> UnreadableFileError:
        # Who calls it by this name (tblib, for one) would find ValueError's, which refuses.
        return OSError.__new__(cls, *args)

    def __init__(
        self, message: str, errno: int | None = None, strerror: str | None = None, filename: Any = None
    ) -> None:
        super().__init__(message, errno, strerror, filename)
        self.errno, self.strerror, self.filename = errno, strerror, filename

    def __str__(self) -> str:
        return str(self.args[0])


class MissingFileError(UnreadableFileError, FileNotFoundError):
    """A file is not there."""


class FolderError(UnreadableFileError, IsADirectoryError):
    """There is a folder where a file is expected."""


class FilePermissionError(UnreadableFileError, PermissionError):
    """A file may not be read."""


def unreadable(path: Any, error: Exception, name: str | None = None) -> UnreadableFileError:
    """The UnreadableFileError for what the system raised at a path; `name`: what the message calls the file."""
    kinds = {FileNotFoundError: MissingFileError, IsADirectoryError: FolderError, PermissionError: FilePermissionError}
    kind = next((ours for theirs, ours in kinds.items() if isinstance(error, theirs)), UnreadableFileError)
    reason = getattr(error, "strerror", None) or str(error)
    text = "is a folder; expected a file" if kind is FolderError else f"cannot be read ({reason})"
    return kind(f"{name or path}: {text}", getattr(error, "errno", None), reason, path)


class StreamInUseError(FastBiLSTMError, RuntimeError):
    """A stream is used by two threads at the same time."""


class UnsupportedLayerError(FastBiLSTMError):
    """The model holds layers or options that fastbilstm does not compute.

    Attributes
    ----------
    problems : list of str
        All that is unsupported in the model, each with layer name, class, option and value.
    source : str or None
        The file that holds the model.
    registrations : list of str
        For each class that is none of Keras' own: the call of `register_layer` that describes it, to be completed.
    """

    problems: list[str]
    source: str | None
    registrations: list[str]

    def __init__(self, problems: Iterable[str], source: str | None = None, registrations: Iterable[str] = ()) -> None:
        self.problems = list(problems)
        self.source = source
        self.registrations = list(registrations)
        where = f"{source}: " if source else ""
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(
            f"{where}the model holds {len(self.problems)} thing(s) that fastbilstm does not support:\n{lines}\n"
            "If they come after the part you need, cut the graph: outputs=[...] (--outputs) names the last layers kept."
            + "".join(f"\n{line}" for line in (_HOW_TO_REGISTER, *self.registrations))
            * bool(self.registrations)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems, self.source, self.registrations)


def _requirement(package: str, extra: str) -> str:
    """What an extra of the installed fastbilstm asks for; the bare name where it is not installed."""
    import importlib.metadata  # imports half of the standard library

    try:
        recorded = importlib.metadata.requires("fastbilstm") or []
    except importlib.metadata.PackageNotFoundError:
        recorded = []
    for line in recorded:
        requirement, _, marker = line.partition(";")
        name = re.match(r"[\w.-]*", requirement)
        if name and name[0].lower() == package.lower() and re.search(rf"""extra == ['"]{extra}['"]""", marker):
            return requirement.strip()
    return package


class MissingExtraError(ImportError):
    """An optional package is needed; the message holds the command that installs it.

    Attributes
    ----------
    package : str
        The name of the package.
    extra : str
        The extra of fastbilstm that installs it.
    purpose : str
        What needs it.
    """

    package: str
    extra: str
    purpose: str

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package, self.extra, self.purpose = package, extra, purpose
        super().__init__(f"{purpose} needs {package}; install it with: pip install '{_requirement(package, extra)}'")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra, self.purpose)


def unless_missing(error: ImportError) -> ImportError | None:
    """The cause of a MissingExtraError: none where the package is not there, what it raised where it is broken."""
    return None if isinstance(error, ModuleNotFoundError) else error
