"""Engines that each break one promise of the port, to prove that the contract suite notices."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.engines.spec import Defaults, EngineSpec, Licence, Preset
from shared.errors import LeaseLost
from worker.engines.base import Frames, OnProgress, OnStep, Plan, RenderRequest, Step
from worker.engines.camera.engine import SPEC, CameraEngine


def ignore(step: Step) -> None:
    pass


class DropsAFrame(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        *rest, last = super().render(request, on_step)
        yield from (*rest, last[:-1])


class CropsTheFrame(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        for frames in super().render(request, on_step):
            yield np.ascontiguousarray(frames[:, :-2])


class YieldsViews(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        for frames in super().render(request, on_step):
            yield frames[:, ::-1]


class YieldsFloats(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        for frames in super().render(request, on_step):
            yield (frames / 255).astype(np.float32)


class YieldsNothingFirst(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        for frames in super().render(request, on_step):
            yield frames[:0]
            yield frames


class ReusesItsBuffer(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        buffer: npt.NDArray[np.uint8] | None = None
        for frames in super().render(request, on_step):
            buffer = frames.copy() if buffer is None else buffer
            buffer[:] = frames
            yield buffer


class ForgetsTheSeed(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        seed = int.from_bytes(os.urandom(4))
        parameters = request.parameters.model_copy(update={"seed": seed})
        return super().render(replace(request, parameters=parameters), on_step)


class CountsFromZero(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        return super().render(request, lambda step: on_step(replace(step, index=step.index - 4)))


class CountsOneStepTwice(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        def twice(step: Step) -> None:
            on_step(step)
            on_step(step)

        return super().render(request, twice)


class TellsNoSteps(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        return super().render(request, ignore)


class IgnoresTheStop(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        def deaf(step: Step) -> None:
            try:
                on_step(step)
            except LeaseLost:
                return

        return super().render(request, deaf)


class EndsQuietly(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        try:
            yield from super().render(request, on_step)
        except LeaseLost:
            return


class LoadsTwice(CameraEngine):
    def load(self, device: str, on_progress: OnProgress) -> None:
        on_progress(0.5, "weights")


class CannotComeBack(CameraEngine):
    is_gone = False

    def unload(self) -> None:
        self.is_gone = True

    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        for frames in super().render(request, on_step):
            yield np.zeros_like(frames) if self.is_gone else frames


class PlansByRendering(CameraEngine):
    def plan(self, request: RenderRequest) -> Plan:
        list(self.render(request, ignore))
        return super().plan(request)


class PlansInBytes(CameraEngine):
    def plan(self, request: RenderRequest) -> Plan:
        return {"moves": b"push_in"}  # type: ignore[dict-item]  # The fault itself.


class PaintsOnTheImage(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        request.image[0, 0] = 255 - request.image[0, 0]
        return super().render(request, on_step)


class LeavesATemporaryFile(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        handle, _ = tempfile.mkstemp()
        os.close(handle)
        return super().render(request, on_step)


class LeavesAFileHere(CameraEngine):
    def render(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        Path("frames.raw").write_bytes(b"")
        return super().render(request, on_step)


class KeepsASecret(CameraEngine):
    class Spec(EngineSpec):
        secret: str = "only in this process"

    spec = Spec(**SPEC.model_dump())


class HasNoLicence(CameraEngine):
    spec = SPEC.model_copy(update={"licence": Licence(name=" ", commercial_use="yes")})


class DefaultsTooFar(CameraEngine):
    spec = SPEC.model_copy(update={"defaults": Defaults(num_frames=33)})


class PresetTooFar(CameraEngine):
    spec = SPEC.model_copy(update={"presets": (Preset(name="film", fps=120),)})
