"""A guided prediction with inputs at fixed addresses, given to a card as one recorded launch."""

from collections.abc import Callable
from typing import Any

import torch

from worker.engines.i2vgen.denoiser import Constants

Work = Callable[[], torch.Tensor]
Recorder = Callable[[Work], Work]
"""Takes work over tensors that keep their addresses; returns a function that does it again."""


class Launch:
    """One shape's guided prediction, recorded when it is made.

    A step copies only its latents and its time.
    """

    @torch.no_grad()
    def __init__(
        self,
        guided: Callable[..., torch.Tensor],
        latents: torch.Tensor,
        constants: Constants,
        record: Recorder,
    ) -> None:
        """`guided` is `Denoiser.guided` or its compiled form; the rest give the shapes."""
        self._latents = latents.clone()
        self._time = constants.times[:1].clone()
        self._placed = constants.latents.clone()
        self._context = tuple((keys.clone(), vals.clone()) for keys, vals in constants.context)
        self._scale = torch.ones((), device=latents.device)
        self._constants: Constants | None = None  # The clip whose conditions are in place.
        self._guided = guided
        self._work = record(self._once)

    @torch.no_grad()
    def predict(
        self, latents: torch.Tensor, constants: Constants, step: int, scale: float
    ) -> torch.Tensor:
        """Return (1, 4, frames, h, w), float32."""
        if self._constants is not constants:
            self._fill(constants)
        self._scale.fill_(scale)
        self._latents.copy_(latents)
        self._time.copy_(constants.times[step : step + 1])
        # The next step's prediction is written to the same address, and a sampler may keep this
        # one.
        return self._work().clone()

    def _once(self) -> torch.Tensor:
        return self._guided(self._latents, self._time, self._placed, self._context, self._scale)

    def _fill(self, constants: Constants) -> None:
        self._placed.copy_(constants.latents)
        for places, given in zip(self._context, constants.context, strict=True):
            for place, tensor in zip(places, given, strict=True):
                place.copy_(tensor)
        self._constants = constants


def recorder(device: torch.device) -> Recorder:
    """Return a recorder for the device, or the work itself on a CPU, where launches are free."""
    if device.type != "cuda":
        return lambda work: work
    pool: Any = torch.cuda.graph_pool_handle()
    return lambda work: _recorded(work, device, pool)


def _recorded(work: Work, device: torch.device, pool: Any) -> Work:
    """Record the work as a CUDA graph.

    All graphs share one pool, because no two run at once, and the result of one is read before the
    next begins.
    """
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        # Work that compiles, tunes or allocates permanently must not be recorded.
        for _ in range(2):
            work()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # A copy or allocation in another thread is no reason to abandon this recording.
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        output = work()

    def replay() -> torch.Tensor:
        graph.replay()
        return output

    return replay
