"""A stand-in for fal's queue, in the shapes that its official client reads."""

from collections.abc import Mapping
from typing import Any

from tests.support.providers.service import KEY, ProviderService, Reply, Task


class FalService(ProviderService):
    def is_authorized(self, headers: Mapping[str, str]) -> bool:
        return headers.get("authorization") == f"Key {KEY}"

    def denied(self) -> Reply:
        return Reply(401, {"detail": "Cannot access application. Authentication is required."})

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Reply:
        match method, path.strip("/").split("/"):
            case "GET", [_, _, "requests", request_id, "status"]:
                return self._status(request_id)
            case "GET", [_, _, "requests", request_id]:
                return self._result(request_id)
            case "PUT", [_, _, "requests", request_id, "cancel"]:
                return self._cancel(request_id)
            case "POST", [owner, alias, *path_of_app] if path_of_app:
                body = {**body, "app": "/".join([owner, alias, *path_of_app])}
                return self.creates(body, lambda task: self._queued(task, owner, alias))
        return Reply(404, {"detail": "Path not found"})

    def _queued(self, task: Task, owner: str, alias: str) -> dict[str, Any]:
        base = f"{self.url}/{owner}/{alias}/requests/{task.id}"
        return {
            "status": "IN_QUEUE",
            "request_id": task.id,
            "response_url": base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
            "logs": None,
            "metrics": {},
            "queue_position": 0,
        }

    def _status(self, request_id: str) -> Reply:
        if self.at_look:
            return self.at_look.popleft()
        task = self.tasks.get(request_id)
        if task is None:
            return Reply(404, {"detail": "Request not found"})
        if self.looked_at(task) or task.is_canceled:
            done: dict[str, Any] = {"status": "COMPLETED", "logs": None, "metrics": {}}
            if task.is_canceled:
                done |= {"error": "Request was cancelled", "error_type": "client_cancelled"}
            return Reply(200, {"request_id": task.id, **done})
        if task.looks == 1:
            return Reply(202, {"status": "IN_QUEUE", "queue_position": 0, "logs": None})
        return Reply(202, {"status": "IN_PROGRESS", "logs": None})

    def _result(self, request_id: str) -> Reply:
        task = self.tasks.get(request_id)
        if task is None:
            return Reply(404, {"detail": "Request not found"})
        if self.at_result:
            return self.at_result.popleft()
        if (failure := self.failure_of(task)) is not None:
            wrong = {"loc": ["body"], "msg": "no", "type": failure, "url": "", "input": {}}
            return Reply(422, {"detail": [wrong]})
        video = {"url": self.film_url(task), "content_type": "video/mp4"}
        return Reply(200, {"video": video}, {"x-fal-request-id": task.id})

    def _cancel(self, request_id: str) -> Reply:
        if self.at_cancel:
            return self.at_cancel.popleft()
        task = self.tasks.get(request_id)
        if task is None:
            return Reply(404, {"status": "NOT_FOUND"})
        if self.is_over(task):
            return Reply(400, {"status": "ALREADY_COMPLETED"})
        task.is_canceled = True
        return Reply(202, {"status": "CANCELLATION_REQUESTED"})
