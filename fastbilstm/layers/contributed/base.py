"""What classes of other packages have in common: where they come from, and how files name their arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base import REGISTRY, BaseLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Contributed(BaseLayer):
    """A class of another package.

    Attributes
    ----------
    source : str
        Package, version, license and address of what it was written after.
    mask_text : str
        What becomes of the mask, for the table in docs/support.md.
    """

    source = ""
    mask_text = "ends here"
    passes_mask = False
    ignored: tuple[str, ...] = ("activity_regularizer",)

    @classmethod
    def names_in_file(cls, config: dict[str, Any]) -> dict[str, str]:
        """{role: regular expression for the end of the array's name in an .h5 file}."""
        raise NotImplementedError

    @classmethod
    def other_path(cls, path: str) -> str:
        """Where the arrays of the layer inside at `path` are in .keras files of tf.keras, if not there."""
        return path

    @classmethod
    def absent(cls, config: dict[str, Any], role: str) -> tuple[tuple[int, ...], Callable[[], NDArray[Any]]] | None:
        """Shape and maker of the array of an optional role, where the file holds none; None if it must be there."""
        return None


def contributed(key: str) -> Any:
    """Class decorator: put the class into REGISTRY as "package.Class"."""

    def put(cls):
        REGISTRY[key] = cls
        return cls

    return put
