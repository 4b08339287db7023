"""The one Celery task: it wakes the render loop and is done."""

from worker.app import app, render_loop
from worker.bells import TASK


@app.task(name=TASK, ignore_result=True)
def answer_bell() -> None:
    render_loop().wake()
