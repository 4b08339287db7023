"""A thousand listeners, half by events and half by waiting, on descriptors above 1024."""

import os
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.gateway import FakeWorker, Gateway
from tests.support.processes import until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def low_descriptors_taken() -> Iterator[None]:
    """Take all descriptors below 1024, so that every later one is above."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert before[1] > 4000, "raise the hard limit of open files"
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while taken[-1] < 1024:
        taken.append(os.dup(taken[0]))
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("listeners", [150, pytest.param(1000, marks=pytest.mark.extended)])
def test_a_thousand_listeners_hold_no_thread_and_no_connection(
    gateway: Gateway, fake_worker: FakeWorker, low_descriptors_taken: None, listeners: int
) -> None:
    job_id = gateway.created()["id"]
    job = fake_worker.claim()
    # These requests start all threads that will ever run, because pools grow to their peak use.
    for _ in range(3):
        gateway.get(f"/v1/jobs/{job_id}")
    sockets = []
    paths = [f"/v1/jobs/{job_id}/events", f"/v1/jobs/{job_id}?wait=60"]
    threads = threading.active_count()
    for number in range(listeners):
        one = socket.create_connection(("127.0.0.1", gateway.port), timeout=120)
        one.sendall(f"GET {paths[number % 2]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        sockets.append(one)
    assert min(one.fileno() for one in sockets) > 1024
    until(lambda: len(gateway.ports.job_watcher) == listeners, "all listen", within=100)
    assert threading.active_count() < threads + 60, "pools have 40 and 16 threads at most"
    with fake_worker.db.begin() as connection:
        [(connections,)] = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gateway%%'"
        ).all()
    assert connections < 20
    assert gateway.get("/v1/queue").status_code == 200
    fake_worker.complete(job)
    for one in sockets:
        with one:
            received = b""
            while b'"status":"succeeded"' not in received:
                received += one.recv(65536)
    until(lambda: len(gateway.ports.job_watcher) == 0, "nobody listens", within=60)
