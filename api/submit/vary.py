"""A new job from an earlier one's picture and values, but for the sentence and the seed."""

from functools import partial
from typing import Final

from api.auth.caller import Caller
from api.concurrency.body_memory import Reservation
from api.ports import Ports
from api.submit.body import CreateRequest
from api.submit.submit import Submitted, submit_read
from api.submit.warnings import unused
from shared.engines.parameters import RequestedParameters
from shared.engines.spec import EngineSpec
from shared.errors import Gone
from shared.jobs.create import CreateJob
from shared.jobs.job import Job, parse_id
from shared.jobs.storage_keys import input_key

LEFT_OUT: Final = frozenset({"seed", "prompt"})
"""Of a job's values: what another clip has of its own."""


async def vary(
    ports: Ports,
    caller: Caller,
    job_id: str,
    *,
    prompt: str,
    key: str | None,
    source: str,
    request_id: str,
) -> Submitted:
    """Queue another clip of a job's picture, by another sentence and with a seed of its own.

    Raises:
        NotFound: no such job.
        Gone: its picture is no longer kept.
        What `submit_read` raises.
    """

    async def read(reservation: Reservation) -> CreateRequest:
        owner_id = caller.owner_id

        def find() -> tuple[Job, EngineSpec]:
            job = ports.queries.get(parse_id(job_id), owner_id=owner_id)
            return job, ports.registry.choose(job.engine).spec

        job, spec = await ports.pools.database.run(find, owner_id=owner_id)
        if job.expired_at is not None:
            raise Gone(
                "the job's picture was kept until its time was over; send it with a new job"
            )
        size = partial(ports.storage.size, input_key(job.id))
        await reservation.grow(await ports.pools.downloads.run(size, owner_id=owner_id))
        get = partial(ports.storage.get, input_key(job.id))
        image = await ports.pools.downloads.run(get, owner_id=owner_id)
        return CreateRequest(_fields(job, spec, prompt), image, parent_id=job.id)

    return await submit_read(read, ports, caller, key=key, source=source, request_id=request_id)


def _fields(job: Job, spec: EngineSpec, prompt: str) -> CreateJob:
    follows = {*LEFT_OUT, *unused(spec)}
    if job.parameters.resolution is not None:
        follows |= {"width", "height"}
    return CreateJob.model_validate(
        {
            **job.parameters.model_dump(include=set(RequestedParameters.model_fields) - follows),
            "prompt": prompt,
            "model": job.engine,
            "outputs": job.outputs,
            "priority": job.priority,
            "metadata": job.metadata,
        }
    )
