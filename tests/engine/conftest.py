"""Fixtures of this room."""

from spoiled_memory import spoiled_memory

__all__ = ["spoiled_memory"]
