"""Convert a Keras file (.h5, .keras, .weights.h5) to one file that fastbilstm loads with NumPy alone.

    python tools/convert_keras.py model.h5 [model.fbl]

A thin script over `fastbilstm.convert` for people who do not install the command `fastbilstm`; same options, same exit
codes (0 done; 2 wrong use, unreadable file, unsupported layer, existing target).
"""

import argparse
import sys
from pathlib import Path

try:
    from fastbilstm.cli import commands
except ModuleNotFoundError:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from fastbilstm.cli import commands


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands.add_convert_options(parser)
    return commands.run(commands.run_convert, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
