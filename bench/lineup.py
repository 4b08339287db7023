"""The arms that render from image to MP4; each has its own copy of the same weights."""

from dataclasses import dataclass, field

from bench.arms import Arm, DenoisingArm, OurArm, StockArm, Warm
from bench.case import Case
from bench.models import Parts, apart, ours, stock, without_encoders
from bench.names import FRUGAL, OURS, OURS_COMPILED, STOCK, STOCK_COMPILED
from worker.engines.i2vgen.compiled import Compiler
from worker.engines.i2vgen.denoiser import Denoiser
from worker.engines.i2vgen.memory import LOW
from worker.engines.i2vgen.weights import Model


@dataclass
class Arms:
    """The arms of one table, by name.

    Attributes:
        model: ours, eager.
        denoising: for arms whose run does not give its latents, a function that does.
        warm: the compiled arm's request and predictions.
    """

    model: Model
    rendering: dict[str, Arm]
    denoising: dict[str, DenoisingArm] = field(default_factory=dict)
    warm: Warm | None = None


def line_up(parts: Parts, case: Case, compiler: Compiler | None) -> Arms:
    """Return the arms in the order of their rows; without a compiler, only the eager ones."""
    model = ours(parts)
    arms = Arms(model, {STOCK: StockArm(stock(parts), model)})
    if compiler is not None:
        strong = stock(parts)
        strong.unet.forward = compiler(strong.unet.forward)
        arms.rendering[STOCK_COMPILED] = StockArm(strong, model)
    arms.rendering[OURS] = OurArm(model)
    arms.denoising[OURS] = DenoisingArm(model, Denoiser(model.unet))
    if compiler is not None:
        own = apart(model)
        arms.warm = Warm(own, case.shape(own), compiler)
        arms.rendering[OURS_COMPILED] = OurArm(own, warm=arms.warm)
        arms.denoising[OURS_COMPILED] = DenoisingArm(own, Denoiser(own.unet), warm=arms.warm)
    frugal = without_encoders(model)
    arms.rendering[FRUGAL] = OurArm(frugal, LOW)
    arms.denoising[FRUGAL] = DenoisingArm(frugal, Denoiser(frugal.unet), LOW)
    return arms
