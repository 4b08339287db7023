"""Measures creates with a small JPEG, beside a handler with the same decode, PUT and INSERT."""

import io
from functools import partial
from typing import Final

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.gateway_arms import HEADS, Arm, Measured, add_turns, measure
from bench.noop import NoopEngine
from tests.support.factory import JobFixture

CONNECTIONS: Final = (1, 8)
WARM_SECONDS: Final = 2.0
SIDE: Final = 512
BOUNDARY: Final = "bench"
FIELDS: Final = {"model": NoopEngine.spec.name, "prompt": "a slow push in", "seed": "7"}


def small_jpeg() -> bytes:
    """Return an image of soft waves with some noise, about as large as a photo of its size."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    waves = [np.sin(9 * rows + k) * np.cos(7 * columns - k) for k in range(3)]
    noise = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 3))
    pixels = np.clip(128 + 90 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def creating(path: str, key: str, image: bytes) -> bytes:
    """Return a request that sends the image as a file part, as browsers and `curl -F` do."""
    parts = [
        (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        ).encode()
        for name, value in FIELDS.items()
    ]
    parts.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n".encode()
        + image
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )
    body = b"".join(parts)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def create(ours: Arm, bare: Arm, key: str, desk: JobFixture, console: Console) -> None:
    """Print both arms' creates a second; the bare one decodes confined, then by itself."""
    image = small_jpeg()
    own = creating("/v1/jobs", key, image)
    for title, path in (("confined", "/v1/jobs"), ("in its own process", "/unconfined/jobs")):
        other = creating(path, key, image)
        table = Table(
            *HEADS, title=f"POST /v1/jobs, a JPEG of {len(image) // 1000} kB; bare decodes {title}"
        )
        for arm, request in ((ours, own), (bare, other)):
            # In both arms, clients and decoders start with the first images.
            measure(arm, request, max(CONNECTIONS), status=202, seconds=WARM_SECONDS)
        for connections in CONNECTIONS:
            turn = partial(_turn, ours, bare, own, other, connections, desk)
            add_turns(table, str(connections), turn)
        console.print(table)


def _turn(
    ours: Arm, bare: Arm, own: bytes, other: bytes, connections: int, desk: JobFixture
) -> tuple[Measured, Measured]:
    """Let each arm create for a while, then remove its jobs, so that both find one queue."""
    measured = []
    for arm, request in ((ours, own), (bare, other)):
        measured.append(measure(arm, request, connections, status=202))
        desk.run("DELETE FROM jobs WHERE source = 'api' AND status = 'queued'")
    return measured[0], measured[1]
