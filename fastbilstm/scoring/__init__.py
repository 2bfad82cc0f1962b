"""Rows of files and columns in, answers out, in bounded memory. Takes a Model and never makes one.

loop.py            chunks scored a few ahead, in order: `Model.predict_iter` and `fastbilstm predict`
column_scorer.py   a batch of columns in, the same batch with answers out
columns.py         which columns a model reads; batch_types.py: a batch as dict, pyarrow or pandas
readers.py         files of rows, chunk by chunk (chunk.py); writers.py: files of answers
resumable_file.py  an output that is there whole or not at all, and what --resume goes on with

May import: preprocessing, inputs and what is below them.
"""
