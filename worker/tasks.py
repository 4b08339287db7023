"""The one Celery task: an adapter onto `answer_bell`."""

from shared.bell import TASK
from worker.app import app, workshop
from worker.render import answer_bell


@app.task(name=TASK, ignore_result=True)
def answer() -> None:
    answer_bell(workshop())
