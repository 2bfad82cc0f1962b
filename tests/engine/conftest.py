"""Fixtures of this room."""

from failing_allocations import failing_malloc
from spoiled_memory import spoiled_memory
from worker_pools import nobody_comes, workers

__all__ = ["failing_malloc", "nobody_comes", "spoiled_memory", "workers"]
