"""What Python imports first where this folder is on its path: small models, and many cores.

As many clips are finished at once as there are cores, so a small machine could not have a job
stand still at each point of that.
"""

import os
from unittest.mock import patch

from tests.support.providers.small_models import add_to_catalogues

add_to_catalogues()
patch.object(os, "cpu_count", return_value=64).start()
