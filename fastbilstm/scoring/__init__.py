"""Scores rows of files and columns in bounded memory. Takes a Model and never loads one.

loop.py            scores chunks in threads, results in order: `Model.predict_iter` and `fastbilstm predict`
column_scorer.py   a batch of columns in, the same batch with answers out
model_options.py   what a model asks of options
columns.py         which columns a model reads; batch_types.py: a batch as dict, pyarrow or pandas
readers.py         files of rows, chunk by chunk (chunk.py); line_readers.py, parquet.py, arrow_streams.py
sources.py         the files of patterns and folders; several_files.py reads them as one
line_files.py      lines of standard input and of packed files, other encodings
writers.py         files of answers; standard_output.py
progress.py        the progress line of `Model.predict`
resumable_file.py  an output file that is complete or absent; an interrupted run leaves parts for --resume

May import: preprocessing, inputs and what is below them.
"""
