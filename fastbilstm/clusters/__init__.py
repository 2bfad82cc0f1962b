"""A model on many machines: each process loads the file once.

batch_predictor.py    `BatchPredictor`: what Spark's mapInArrow, Ray's map_batches and Dask call
dask_collections.py   `fastbilstm.dask`: DataFrame, Bag and Array
dask_chunks.py        the chunks of a file on a Dask cluster: `fastbilstm predict --dask`

May import: loading, scoring and what is below them. Dask is imported where it is used.
"""
