"""The one Celery task: it wakes the render loop and returns."""

from worker.bells import TASK
from worker.celery_app import app, render_loop


@app.task(name=TASK, ignore_result=True)
def answer_bell() -> None:
    render_loop().wake()
