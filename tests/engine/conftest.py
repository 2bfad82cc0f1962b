"""Fixtures of this room."""

from failing_allocations import failing_malloc
from spoiled_memory import spoiled_memory

__all__ = ["failing_malloc", "spoiled_memory"]
