"""`python -m worker` that looks at its cards four times a second."""

import sys
from functools import partial

from worker.__main__ import main
from worker.supervisor.card_watch import CardWatch

if __name__ == "__main__":
    sys.exit(main(partial(CardWatch, look_seconds=0.25, beat_seconds=0.25)))
