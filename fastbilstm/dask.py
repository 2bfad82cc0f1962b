"""fastbilstm.dask: predictions on Dask; the code is in `clusters`."""

from .clusters.dask_collections import predict, predict_chunks

__all__ = ["predict", "predict_chunks"]
