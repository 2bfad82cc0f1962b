"""python -m fastbilstm.cli"""

import sys

from . import main

sys.exit(main())
