"""Predictions and frames compiled for the shapes that are asked for most."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch._dynamo

from shared.errors import OutOfMemory
from worker.engines.diffusion.faults import device_faults, is_memory, release
from worker.engines.i2vgen.channels_last import lay_out_convolutions
from worker.engines.i2vgen.conditions import Conditions
from worker.engines.i2vgen.cuda_graph import Launch, Recorder, recorder
from worker.engines.i2vgen.ddim import DdimStep
from worker.engines.i2vgen.decode import Levels, levels
from worker.engines.i2vgen.denoiser import Constants, Denoiser
from worker.engines.i2vgen.weights import Model

log = logging.getLogger(__name__)

STRAYED: Final = 0.1
"""Rounding in bfloat16 moves a prediction by some 1e-2; a wrong kernel by about its size."""

MOST_COMPILES: Final = 64
"""For each shape of each model loaded since the process began; torch refuses the ninth."""

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class WarmShape:
    """A clip's size in latents; each is compiled by itself, for guided clips."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.height} x {self.width} latents"

    @property
    def size(self) -> int:
        return self.frames * self.height * self.width

    @classmethod
    def of(cls, latents: torch.Tensor) -> "WarmShape":
        return cls(*latents.shape[2:])

    @classmethod
    def of_clip(cls, model: Model, width: int, height: int, frames: int) -> "WarmShape":
        """Return the shape of a clip whose sides are in pixels."""
        return cls(frames, height // model.pixels_per_latent, width // model.pixels_per_latent)


def whole_graph(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return `run` compiled, for one fixed shape after another.

    Its own launches are not recorded by the compiler ("reduce-overhead"): that is kept for each
    thread, and ours warms in one and renders in another; and it would copy the whole context
    into place at every step.
    """
    return torch.compile(run, fullgraph=True, dynamic=False)


class Compiled:
    """What was compiled of one model; shapes that were not warmed are not served."""

    def __init__(
        self, model: Model, *, compiler: Compiler, record: Recorder | None = None
    ) -> None:
        """Lay the model's weights out for compiled code.

        Args:
            compiler: `whole_graph`, or what stands in for it.
            record: how work is launched; None is the device's own way.
        """
        lay_out(model, by_pixel=True)
        self._model = model
        self._denoiser = Denoiser(model.unet)
        self._guided = compiler(self._denoiser.guided)
        self._levels = compiler(levels)
        self._given_record = record
        self._take_new_pool()
        self._shapes: set[WarmShape] = set()
        self._launches: dict[WarmShape, Launch] = {}  # Of those shapes, what is recorded now.
        self._decodes: set[tuple[int, ...]] = set()

    def serves(self, shape: WarmShape) -> bool:
        return shape in self._shapes

    @property
    def has_shapes(self) -> bool:
        return bool(self._shapes)

    def undo(self) -> None:
        """Lay the weights out for eager code again."""
        lay_out(self._model, by_pixel=False)

    def predict(
        self, latents: torch.Tensor, constants: Constants, step: int, scale: float
    ) -> torch.Tensor | None:
        """Return the guided prediction of both rows; None where it was not compiled."""
        shape = WarmShape.of(latents)
        if not self.serves(shape) or constants.rows != 2:
            return None
        if shape not in self._launches:
            self._launches[shape] = self._record_anew(shape, latents, constants)
        return self._launches[shape].predict(latents, constants, step, scale)

    def _record_anew(
        self, shape: WarmShape, latents: torch.Tensor, constants: Constants
    ) -> Launch:
        try:
            return Launch(self._guided, latents, constants, self._record)
        except RuntimeError as error:
            if is_memory(error):
                # The card is fuller than when it was warmed: each clip would try and fail again.
                self._shapes.discard(shape)
                self._take_new_pool()
                log.warning("no_room_to_record_and_eager: %s", shape)
            raise

    def make_room_for(self, shape: WarmShape) -> None:
        """Let go of all recordings before a clip that is larger than every warmed one.

        It is rendered eagerly and takes memory of its own, which admission reckons with alone.
        """
        if self._launches and shape.size > max(each.size for each in self._shapes):
            self.let_go()

    def let_go(self) -> None:
        """Give all recordings' memory back to the device.

        The next clip of a warmed shape records again, in the time of some three steps.
        """
        if not self._launches:
            return
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)  # A step of theirs may be under way.
        self._launches.clear()
        self._take_new_pool()
        release(self._model.device)

    def _take_new_pool(self) -> None:
        """Record into another pool: one that lost its last recording takes no new one."""
        self._record = self._given_record or recorder(self._model.device)

    def levels(self, vae: Any, latents: torch.Tensor) -> Levels:
        """Return what `decode.levels` returns."""
        run = self._levels if tuple(latents.shape) in self._decodes else levels
        made: Levels = run(vae, latents)
        return made

    def warm(self, shape: WarmShape, *, decode_frames: int) -> bool:
        """Compile for a shape; False, and eager from then on, where that fails.

        Raises:
            DevicePoisoned: the device failed and will until the process ends.
        """
        if self.serves(shape):
            return True
        # torch keeps its settings for each thread.
        more = torch._dynamo.config.patch(recompile_limit=MOST_COMPILES)
        with _failures(self._model.device, shape), more:
            self._warm_frames(shape, decode_frames)
            self._launches[shape] = self._warm_prediction(shape)
            self._shapes.add(shape)
        return self.serves(shape)

    def _warm_prediction(self, shape: WarmShape) -> Launch:
        """Record a launch for the shape and hold its first prediction against the eager one."""
        model = self._model
        latents = _draw((1, 4, shape.frames, shape.height, shape.width)).to(model.device)
        constants = self._denoiser.constants(_conditions(model, latents), [DdimStep(901, 1, 0)])
        # Eager first: its memory is free again when the recording takes its own for good.
        eager = self._denoiser.predict(latents, constants, 0)[1:].clone()
        launch = Launch(self._guided, latents, constants, self._record)
        _held_against(launch.predict(latents, constants, 0, 1.0), eager)
        return launch

    def _warm_frames(self, shape: WarmShape, decode_frames: int) -> None:
        size = (decode_frames, 4, shape.height, shape.width)
        latents = _draw(size).to(self._model.device, self._model.dtype)
        ours, eager = (run(self._model.vae, latents) for run in (self._levels, levels))
        _held_against(ours.frames.float(), eager.frames.float())
        self._decodes.add(size)


def lay_out(model: Model, *, by_pixel: bool) -> None:
    """Put the convolutions' weights where compiled kernels want them, or back; no number changes.

    What is rendered eagerly beside compiled shapes has to live with it.
    """
    lay_out_convolutions(model.unet, by_pixel=by_pixel)
    lay_out_convolutions(model.vae.decoder, by_pixel=by_pixel)


@contextmanager
def _failures(device: torch.device, shape: WarmShape) -> Iterator[None]:
    """Log why a shape could not be compiled, and go on without."""
    try:
        with device_faults(device, "too little memory is left to compile in"):
            yield
    except (RuntimeError, OSError, ImportError, OutOfMemory) as error:
        # What the compiler throws are RuntimeErrors; without a C compiler or a folder, OSErrors.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or type(error).__name__
        log.warning("not_compiled_and_eager: %s: %s", shape, reason)
        # Not its frames: to clear the compiler's leaves torch's dispatcher broken in this thread.
        release(device)


def _held_against(ours: torch.Tensor, eager: torch.Tensor) -> None:
    error = float((ours - eager).norm() / eager.norm())
    if not error <= STRAYED:  # NaN is no proof either.
        raise RuntimeError(f"compiled code strays from eager by {error:.1e}")


def _conditions(model: Model, latents: torch.Tensor) -> Conditions:
    """Return made-up conditions of a guided clip, in the real ones' shapes."""
    width = model.unet.config.cross_attention_dim
    tokens = model.text_encoder.config.max_position_embeddings
    text, picture = _draw((2, tokens, width)), _draw((2, 1, width))
    return Conditions(
        text=text.to(model.device, model.dtype),
        picture=picture.to(model.device, model.dtype),
        latents=latents,
        fps=8,
    )


def _draw(size: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator("cpu").manual_seed(sum(size)))
