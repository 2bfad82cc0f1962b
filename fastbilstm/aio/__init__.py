"""Services on asyncio: single requests, gathered into batches.

batcher.py    `Batcher`

May import: model and what is below it. Knows nothing of HTTP.
"""

from .batcher import Batcher

__all__ = ["Batcher"]
