"""The name that older pickles of Model ask for; the class is in `converted`."""

from .converted.fbl_file import Vector

__all__ = ["Vector"]
