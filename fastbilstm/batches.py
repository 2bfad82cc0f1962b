"""The name that older pickles of BatchPredictor ask for; the class is in `clusters`."""

from .clusters.batch_predictor import BatchPredictor

__all__ = ["BatchPredictor"]
