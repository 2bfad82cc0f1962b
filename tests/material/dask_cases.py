"""What the tests of Dask share: a frame of rows, rows that are refused, a worker that dies. Imports Dask if used."""

import os
import signal

ROWS = 40


def frame_of(ids, partitions=4):
    import dask.dataframe as dd
    import pandas as pd

    rows = [" ".join(map(str, row)) for row in ids]
    return dd.from_pandas(pd.DataFrame({"n": range(len(ids)), "ids": rows}), npartitions=partitions)


def spoiled(ids):
    wrong = ids.copy()
    wrong[[13, 17], 5] = 9999
    return wrong


def address(client):
    return client.scheduler.address


def die_once(marker):
    """Kill this process in the middle of its task, the first time that anybody comes here."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    with open(marker, "w") as file:
        file.write(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
