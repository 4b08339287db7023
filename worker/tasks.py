"""The one Celery task: an adapter onto `answer_bell`."""

from shared.bell import TASK
from worker.celery_app import app, context


@app.task(name=TASK, ignore_result=True)
def answer() -> None:
    from worker.render.loop import answer_bell  # The parent registers the task, the child runs it.

    answer_bell(context())
