"""`python -m worker` that looks at its cards four times a second."""

import sys

from worker.__main__ import main
from worker.supervisor import card_watch

if __name__ == "__main__":
    card_watch.LOOK_SECONDS = 0.25  # type: ignore[misc]
    card_watch.BEAT_SECONDS = 0.25  # type: ignore[misc]
    sys.exit(main())
