"""The spec of a hosted model: its inputs, the provider that gets images, and the price."""

from typing import Final

from shared.engines.spec import Defaults, EngineSpec, Honours, Hosted, Licence, Shape, Span
from worker.engines.remote.hosted.model import HostedModel
from worker.engines.remote.hosted.offer import HostedOffer

ANY_LANGUAGE: Final = ("any",)
DEFAULT_SECONDS: Final = 5


def spec_of(offer: HostedOffer, model: HostedModel, *, provider: str, terms: str) -> EngineSpec:
    """Return the spec that the gateway and the page show of a provider's model."""
    seconds = model.seconds_near(DEFAULT_SECONDS)
    last_frame = (Honours.LAST_FRAME,) if model.takes_last_frame else ()
    seed = "" if model.takes_seed else " It takes no seed, so each clip differs."
    return EngineSpec(
        name=offer.name,
        title=f"{model.title} ({provider})",
        description=(
            f"{model.title}, made by {provider} and paid for by this installation's key. The"
            f" image and the prompt are sent there.{seed}"
        ),
        revision=f"{provider.lower()}/{model.name}",
        ai_generated=True,
        uses_prompt=True,
        prompt_required=model.prompt_required,
        prompt_languages=ANY_LANGUAGE,
        uses_negative_prompt=model.takes_negative_prompt,
        uses_steps=False,
        uses_guidance=False,
        needs_gpu=False,
        shape=Shape.BUCKETS,
        multiple=2,
        sizes=model.sizes,
        num_frames=model.num_frames,
        fps=Span(low=model.fps, high=model.fps),
        defaults=Defaults(num_frames=seconds * model.fps, fps=model.fps, num_inference_steps=1),
        honours=(Honours.BLUR, *last_frame),
        hosted=Hosted(provider=provider, model=model.name, usd_per_second=offer.usd_per_second),
        licence=Licence(
            name=f"{provider}'s terms",
            url=terms,
            commercial_use="conditions",
            note=f"{provider} decides what its clips may be used for, and what it keeps of them",
        ),
    )
