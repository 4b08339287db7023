"""A stand-in for Runway's API, in the shapes that its official SDK reads strictly."""

from collections.abc import Mapping
from typing import Any

from tests.support.providers.service import KEY, ProviderService, Reply, Task

CREDITS = 25
CREATED_AT = "2026-11-30T10:00:00.000Z"


class RunwayService(ProviderService):
    def is_authorized(self, headers: Mapping[str, str]) -> bool:
        return headers.get("authorization") == f"Bearer {KEY}"

    def denied(self) -> Reply:
        return Reply(401, {"error": "The API key that was provided is not valid."})

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Reply:
        match method, path.strip("/").split("/"):
            case "POST", ["v1", "image_to_video"]:
                return self.creates(
                    body, lambda task: {"id": task.id, "estimatedCost": {"credits": CREDITS}}
                )
            case "GET", ["v1", "tasks", task_id]:
                return self._look(task_id)
            case "DELETE", ["v1", "tasks", task_id]:
                return self._cancel(task_id)
        return Reply(404, {"error": "Not found"})

    def _look(self, task_id: str) -> Reply:
        if self.at_look:
            return self.at_look.popleft()
        task = self.tasks.get(task_id)
        if task is None or task.is_canceled:
            return Reply(404, {"error": "Task not found"})
        is_over = self.looked_at(task)
        return Reply(200, {"id": task.id, "createdAt": CREATED_AT, **self._state(task, is_over)})

    def _state(self, task: Task, is_over: bool) -> dict[str, Any]:
        estimated = {"estimatedCost": {"credits": CREDITS}}
        if not is_over:
            if task.looks == 1:
                return {"status": "PENDING", **estimated}
            return {"status": "RUNNING", "progress": 0.5, **estimated}
        if (failure := self.failure_of(task)) is not None:
            told = {"failure": "It did not work.", "failureCode": failure}
            return {"status": "FAILED", "cost": {"credits": 0}, **told}
        output = [self.film_url(task)]
        return {"status": "SUCCEEDED", "output": output, "cost": {"credits": CREDITS}}

    def _cancel(self, task_id: str) -> Reply:
        if self.at_cancel:
            return self.at_cancel.popleft()
        task = self.tasks.get(task_id)
        if task is None or task.is_canceled:
            return Reply(404, {"error": "Task not found"})
        task.is_canceled = True
        return Reply(204)
