"""A plugin of pytest: no package can be imported but those named in ONLY_REQUIRED and what they need in turn.

So a command is tested as in an environment that holds these alone. Imports the standard library only.
"""

import importlib.metadata as metadata
import os
import re
import sys


def plain(name):
    """The name of a distribution as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(names):
    """The names and those of all they need, without extras."""
    found, waiting = set(), [plain(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another platform or Python
            continue
        waiting += [plain(re.match(r"[\w.-]+", line)[0]) for line in lines if "extra ==" not in line]
    return found


ALLOWED = needed(os.environ["ONLY_REQUIRED"].split())
OWNERS = metadata.packages_distributions().items()
REFUSED = {module for module, names in OWNERS if not {plain(name) for name in names} & ALLOWED}


class Finder:
    """Finds nothing, and refuses modules of other packages."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r} (not in ONLY_REQUIRED)", name=name)


def allowed_distributions(all_distributions=metadata.distributions, **options):
    """pytest looks for plugins in them."""
    return (found for found in all_distributions(**options) if plain(found.name) in ALLOWED)


sys.meta_path.insert(0, Finder)
metadata.distributions = allowed_distributions
