"""python -m fastbilstm: the command. May import the room cli."""

import sys

from .cli import main

sys.exit(main())
