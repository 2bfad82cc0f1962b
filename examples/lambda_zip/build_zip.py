"""Builds the archive of handler.py: NumPy, fastbilstm and a model. Prints its size and how long a cold start takes.

    python examples/lambda_zip/build_zip.py [--model model.fbl] [-o function.zip]

Run it with the Python, on the kind of system, that the function will have. A cold start here: a new process that has
nothing but the unpacked archive, up to its first answer; what the service takes to fetch the archive comes on top.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bundle import add_model, collect, megabytes, pack  # noqa: E402

# -I -S: no other folder than the one that is given, no packages of this machine.
FIRST_ANSWER = """
import sys
sys.path.insert(0, sys.argv[1])
import handler
found = handler.handle({"body": '{"texts": ["a wonderful film"]}'}, None)
print(found["body"])
raise SystemExit(found["statusCode"] != 200)
"""


def first_answer(folder):
    """What the handler in this folder answers in a process of its own, and the seconds from its start to its end."""
    start = time.perf_counter()
    command = [sys.executable, "-I", "-S", "-c", FIRST_ANSWER, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"the archive gives no answer:\n{done.stdout}{done.stderr}")
    return done.stdout, time.perf_counter() - start


def build(target, model=None, starts=5):
    """Write the archive, and start it so often; (its answer, seconds of each start)."""
    with tempfile.TemporaryDirectory() as folder:
        content = Path(folder, "content")
        collect(content)
        shutil.copyfile(HERE / "handler.py", content / "handler.py")
        add_model(content, model)
        pack(content, target)
        print(f"{target}: {megabytes(target)}, unpacked {megabytes(content)}")
        found = [first_answer(content) for _ in range(starts)]
    return found[0][0], [seconds for _, seconds in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a converted file with tokenizer and labels (default: the sample)")
    parser.add_argument("-o", "--output", default="function.zip")
    given = parser.parse_args()
    found, seconds = build(given.output, given.model)
    print(f"first answer: {found}", end="")
    print(f"cold start: {seconds[0]:.2f} s, then {statistics.median(seconds[1:]):.2f} s (files in the system's cache)")


if __name__ == "__main__":
    main()
