"""The start of predict.pyz: unpacks NumPy and fastbilstm once into the user's cache, then runs the command `predict`.

    python predict.pyz "a wonderful film" "a boring film"
    python predict.pyz < texts.txt                      # one text a line

Compiled modules cannot be imported from inside an archive, hence the folder; its name is the content's, so that another
build has another. Until the packages are unpacked it imports the standard library only.
"""

import os
import sys
import tempfile
import zipfile
from pathlib import Path


def unpacked(archive):
    """The folder with the content of the archive, made if it is not there; it is there whole or not at all."""
    with zipfile.ZipFile(archive) as opened:
        name = opened.read("CONTENT").decode("ascii")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastbilstm-zipapp"
        folder = cache / name
        if not folder.is_dir():
            cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(dir=cache) as made:
                opened.extractall(Path(made, "content"))
                try:
                    Path(made, "content").rename(folder)
                except OSError:
                    if not folder.is_dir():  # else another process was faster
                        raise
    return folder


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.partition("\n\n")[2].partition("\n\n")[0])
        return
    folder = unpacked(Path(sys.argv[0]))
    sys.path.insert(0, str(folder))
    import fastbilstm

    model = fastbilstm.load(folder / "model.fbl", n_threads=1)
    texts = sys.argv[1:] or [line.rstrip("\n") for line in sys.stdin]
    for text, found in zip(texts, model.classify(texts)):
        print(f"{found['label']}\t{found['score']:.3f}\t{text}")


if __name__ == "__main__":
    main()
