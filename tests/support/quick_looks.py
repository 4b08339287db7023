"""`python -m worker` that looks at its cards four times a second."""

import sys

from worker import card_watch
from worker.__main__ import main

if __name__ == "__main__":
    card_watch.LOOK_SECONDS = 0.25  # type: ignore[misc]
    card_watch.BEAT_SECONDS = 0.25  # type: ignore[misc]
    sys.exit(main())
