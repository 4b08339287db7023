"""Predictions and frames compiled for the most frequent shapes."""

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
"""Rounding in bfloat16 changes a prediction by some 1e-2; a wrong kernel changes it by about its
size."""

MOST_COMPILES: Final = 64
"""For each shape of each model loaded since the process began; torch refuses the ninth."""

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class WarmShape:
    """A clip's size in latents; each is compiled separately, for guided clips."""

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

    The compiler does not record its own launches ("reduce-overhead"), because these are kept for
    each thread, while our code warms in one thread and renders in another. It would also copy the
    whole context at every step.
    """
    return torch.compile(run, fullgraph=True, dynamic=False)


class Compiled:
    """The compiled code of one model; shapes that were not warmed are not served."""

    def __init__(
        self, model: Model, *, compiler: Compiler, record: Recorder | None = None
    ) -> None:
        """Lay the model's weights out for compiled code.

        Args:
            compiler: `whole_graph`, or a stand-in for it.
            record: how work is launched; None means the device's own way.
        """
        lay_out(model, by_pixel=True)
        self._model = model
        self._denoiser = Denoiser(model.unet)
        self._guided = compiler(self._denoiser.guided)
        self._levels = compiler(levels)
        self._given_record = record
        self._take_new_pool()
        self._shapes: set[WarmShape] = set()
        # The shapes among those that are recorded now.
        self._launches: dict[WarmShape, Launch] = {}
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
        """Return the guided prediction of both rows; None if it was not compiled."""
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
        """Free all recordings before a clip that is larger than every warmed one.

        It is rendered eagerly and needs memory of its own, and admission counts only that memory.
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
            torch.cuda.synchronize(self._model.device)  # One of their steps may be under way.
        self._launches.clear()
        self._take_new_pool()
        release(self._model.device)

    def _take_new_pool(self) -> None:
        """Record into another pool, because one that lost its last recording takes no new one."""
        self._record = self._given_record or recorder(self._model.device)

    def levels(self, vae: Any, latents: torch.Tensor) -> Levels:
        """Return the result of `decode.levels`."""
        run = self._levels if tuple(latents.shape) in self._decodes else levels
        made: Levels = run(vae, latents)
        return made

    def warm(self, shape: WarmShape, *, decode_frames: int) -> bool:
        """Compile for a shape; return False, and stay eager for it, if that fails.

        Raises:
            DevicePoisoned: the device failed, and will fail until the process ends.
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
        """Record a launch for the shape and compare its first prediction with the eager one."""
        model = self._model
        latents = _draw((1, 4, shape.frames, shape.height, shape.width)).to(model.device)
        constants = self._denoiser.constants(_conditions(model, latents), [DdimStep(901, 1, 0)])
        # Eager first, so that its memory is free again when the recording takes its own
        # permanently.
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
    """Lay out the convolutions' weights for compiled kernels, or back; no number changes.

    Eager clips beside compiled shapes must use this layout too.
    """
    lay_out_convolutions(model.unet, by_pixel=by_pixel)
    lay_out_convolutions(model.vae.decoder, by_pixel=by_pixel)


@contextmanager
def _failures(device: torch.device, shape: WarmShape) -> Iterator[None]:
    """Log why a shape could not be compiled, and continue without it."""
    try:
        with device_faults(device, "too little memory is left to compile in"):
            yield
    except (RuntimeError, OSError, ImportError, OutOfMemory) as error:
        # The compiler raises RuntimeErrors; without a C compiler or a folder, OSErrors.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2]) or type(error).__name__
        log.warning("not_compiled_and_eager: %s: %s", shape, reason)
        # Not its frames, because clearing those of the compiler breaks torch's dispatcher in this
        # thread.
        release(device)


def _held_against(ours: torch.Tensor, eager: torch.Tensor) -> None:
    error = float((ours - eager).norm() / eager.norm())
    if not error <= STRAYED:  # NaN proves nothing either.
        raise RuntimeError(f"compiled code strays from eager by {error:.1e}")


def _conditions(model: Model, latents: torch.Tensor) -> Conditions:
    """Return made-up conditions of a guided clip, in the real ones' shapes."""
    width = model.unet.config.cross_attention_dim
    tokens = model.text_encoder.config.max_position_embeddings
    text, image = _draw((2, tokens, width)), _draw((2, 1, width))
    return Conditions(
        text=text.to(model.device, model.dtype),
        image=image.to(model.device, model.dtype),
        latents=latents,
        fps=8,
    )


def _draw(size: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator("cpu").manual_seed(sum(size)))
