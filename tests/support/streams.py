"""Answers that never end, read as far as they have come."""

import requests


def begun(answer: requests.Response) -> requests.Response:
    """Return an answer that was asked for with `stream=True`, of an event stream its beginning."""
    if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
        answer._content = next(answer.iter_content(4096), b"")
        answer.close()
    assert answer.content is not None
    return answer
