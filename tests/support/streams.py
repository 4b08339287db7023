"""Endless answers, read as far as they have arrived."""

import requests


def begun(answer: requests.Response) -> requests.Response:
    """Return an answer requested with `stream=True`; for an event stream, its beginning."""
    if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
        answer._content = next(answer.iter_content(4096), b"")
        answer.close()
    assert answer.content is not None
    return answer
