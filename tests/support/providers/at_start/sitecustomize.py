"""Python imports this first if this folder is on its path: small models, and many cores.

As many clips are finished at once as there are cores. A small machine could therefore not stop
one job at each crash point of finishing.
"""

import os
from unittest.mock import patch

from tests.support.providers.small_models import add_to_catalogues

add_to_catalogues()
patch.object(os, "cpu_count", return_value=64).start()
