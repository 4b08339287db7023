"""Random Wan and SVD models in memory, for diffusers' pipelines and for ours."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Protocol

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.wan import pipeline_wan_i2v
from PIL import Image as PillowImage
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from worker.engines.base import Frames, OnStep, RenderRequest, Step
from worker.engines.diffusion.clip_loop import seeded
from worker.engines.diffusion.encodings import Encodings
from worker.engines.diffusion.preview import LatentMap, fit_by_encoding
from worker.engines.diffusion.seats import Seats
from worker.engines.diffusion.tiny import (
    CLIP_PREPROCESSOR,
    T5_VOCABULARY,
    drawn_anew,
    write_t5_tokenizer,
)
from worker.engines.framing import framed
from worker.engines.svd import pipeline as svd_clips
from worker.engines.svd.model import Model as SvdModel
from worker.engines.svd.tiny import svd_scheduler
from worker.engines.wan import pipeline as wan_clips
from worker.engines.wan.model import Model as WanModel
from worker.engines.wan.model import Pipeline as WanPipeline
from worker.engines.wan.tiny import SCHEDULER

AfterStep = Callable[[], None]

# The configuration of TI2V-5B, without its 48 statistics of latents, which cost no time.
WAN_TRANSFORMER: Final = {
    "in_channels": 48,
    "out_channels": 48,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 14336,
    "num_layers": 30,
}
SMALL_WAN_TRANSFORMER: Final = WAN_TRANSFORMER | {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "text_dim": 32,
    "ffn_dim": 64,
    "num_layers": 2,
}
WAN_VAE: Final = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
SMALL_WAN_VAE: Final = WAN_VAE | {"base_dim": 4, "decoder_base_dim": 6, "num_res_blocks": 1}
UMT5: Final = {
    **{"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240},
    **{"num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"},
}
SMALL_UMT5: Final = UMT5 | {
    **{"vocab_size": len(T5_VOCABULARY), "d_model": 32, "d_kv": 8},
    **{"d_ff": 32, "num_layers": 2, "num_heads": 2},
}
CLIP_H: Final = {
    **{"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32},
    **{"num_attention_heads": 16, "projection_dim": 1024, "image_size": 224, "patch_size": 14},
}
SMALL_CLIP: Final = CLIP_H | {
    **{"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "projection_dim": 32, "patch_size": 56},
}
SVD_VAE: Final = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
SMALL_SVD_VAE: Final = {"block_out_channels": (32,) * 4, "layers_per_block": 1}
SMALL_SVD_UNET: Final = {
    **{"block_out_channels": (32, 32), "layers_per_block": 1, "cross_attention_dim": 32},
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    **{"num_attention_heads": (2, 2), "addition_time_embed_dim": 32},
    "projection_class_embeddings_input_dim": 96,
}


class Subject(Protocol):
    """The model of one engine, with diffusers' pipeline and the engine's."""

    @property
    def device(self) -> torch.device: ...

    def by_stock(self, request: RenderRequest, after_step: AfterStep, output: str) -> Any:
        """Return a clip's images for the output "pil", its latents for "latent"."""

    def by_ours(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        """Yield a clip's frames."""

    def latents(self, request: RenderRequest) -> torch.Tensor:
        """Return the denoised latents of the engine."""

    def latent_map(self, request: RenderRequest) -> LatentMap:
        """Return the object that makes the clip's previews."""


@dataclass(frozen=True)
class Wan:
    model: WanModel
    stock: Any
    device: torch.device

    def by_stock(self, request: RenderRequest, after_step: AfterStep, output: str) -> Any:
        asked = request.parameters
        return self.stock(
            image=_framed(request),
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt,
            width=asked.width,
            height=asked.height,
            num_frames=asked.num_frames,
            num_inference_steps=asked.num_inference_steps,
            guidance_scale=asked.guidance_scale,
            generator=seeded(asked.seed),
            callback_on_step_end=_calling(after_step),
            output_type=output,
        ).frames

    def by_ours(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        return wan_clips.render_clip(self._forgetful, request, on_step)

    def latents(self, request: RenderRequest) -> torch.Tensor:
        return wan_clips.clip_latents(self._forgetful, request, _ignore)

    @property
    def _forgetful(self) -> WanModel:
        """Return the model with no kept encodings, because the stock pipeline keeps none."""
        return replace(self.model, encodings=Encodings())

    def latent_map(self, request: RenderRequest) -> LatentMap:
        encode = partial(wan_clips.encoded, self.model.vae)
        frame = _frame(request)
        return fit_by_encoding(encode, frame, multiple=wan_clips.MULTIPLE, device=self.device)


@dataclass(frozen=True)
class Svd:
    model: SvdModel
    device: torch.device

    def by_stock(self, request: RenderRequest, after_step: AfterStep, output: str) -> Any:
        asked = request.parameters
        return self.model.pipeline(
            image=_framed(request),
            width=asked.width,
            height=asked.height,
            num_frames=asked.num_frames,
            fps=asked.fps,
            max_guidance_scale=asked.guidance_scale,
            num_inference_steps=asked.num_inference_steps,
            decode_chunk_size=asked.num_frames,
            generator=seeded(asked.seed),
            callback_on_step_end=_calling(after_step),
            output_type=output,
        ).frames

    def by_ours(self, request: RenderRequest, on_step: OnStep) -> Iterator[Frames]:
        whole = request.parameters.num_frames
        return svd_clips.render_clip(self.model, request, on_step, decode_frames=whole)

    def latents(self, request: RenderRequest) -> torch.Tensor:
        return svd_clips.clip_latents(self.model, request, _ignore)

    def latent_map(self, request: RenderRequest) -> LatentMap:
        encode = partial(svd_clips.encoded, self.model.vae)
        frame = _frame(request)
        return fit_by_encoding(encode, frame, multiple=svd_clips.MULTIPLE, device=self.device)


def draw_wan(device: torch.device, *, is_full: bool) -> Subject:
    """Draw TI2V-5B or a small model for two cores; both pipelines share the weights."""
    # The library cleans prompts with it. It is not installed, and our prompts are clean.
    pipeline_wan_i2v.ftfy = SimpleNamespace(fix_text=lambda text: text)
    dtype = _dtype(device)
    with torch.random.fork_rng(), device:
        torch.manual_seed(22)
        vae = _ready(AutoencoderKLWan(**(WAN_VAE if is_full else SMALL_WAN_VAE)), torch.float32)
        config = WAN_TRANSFORMER if is_full else SMALL_WAN_TRANSFORMER
        transformer = _in(dtype, lambda: WanTransformer3DModel(**config))
        text = UMT5Config(**(UMT5 if is_full else SMALL_UMT5))
        text_encoder = _in(dtype, lambda: UMT5EncoderModel(text))
    with tempfile.TemporaryDirectory(prefix="stillreel-bench-") as name:
        write_t5_tokenizer(Path(name))
        tokenizer = T5Tokenizer.from_pretrained(name)
    parts = {"vae": vae, "transformer": transformer, "expand_timesteps": True}
    own = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        scheduler=UniPCMultistepScheduler(**SCHEDULER),
        **parts,
    )
    stock = WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        scheduler=UniPCMultistepScheduler(**SCHEDULER),
        **parts,
    )
    for pipeline in (own, stock):
        pipeline.set_progress_bar_config(disable=True)
    seats = Seats([text_encoder, transformer], device, one_at_a_time=False)
    return Wan(WanModel(tokenizer, text_encoder, own, seats, device, dtype), stock, device)


def draw_svd(device: torch.device, *, is_full: bool) -> Subject:
    """Draw SVD or a small model; ours is diffusers' pipeline with another call."""
    dtype = _dtype(device)
    with torch.random.fork_rng(), device:
        torch.manual_seed(14)
        vae = _ready(
            AutoencoderKLTemporalDecoder(
                down_block_types=("DownEncoderBlock2D",) * 4,
                latent_channels=4,
                **(SVD_VAE if is_full else SMALL_SVD_VAE),
            ),
            dtype,
        )
        # The defaults of the class are those of the real model.
        config: dict[str, Any] = {} if is_full else SMALL_SVD_UNET
        unet = _in(dtype, lambda: UNetSpatioTemporalConditionModel(**config))
        eye = CLIPVisionConfig(**(CLIP_H if is_full else SMALL_CLIP))
        encoder = _in(dtype, lambda: CLIPVisionModelWithProjection(eye))
    scheduler = svd_scheduler()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.numpy()
    processor = {
        key: each for key, each in CLIP_PREPROCESSOR.items() if key != "image_processor_type"
    }
    pipeline = StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=encoder,
        unet=unet,
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(**processor),
    )
    pipeline.set_progress_bar_config(disable=True)
    return Svd(SvdModel(pipeline, device, dtype), device)


def _dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def _in(dtype: torch.dtype, make: Callable[[], Any]) -> Any:
    """Return the module made with weights of this type at once, so that no card holds it twice."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return _ready(make(), dtype)
    finally:
        torch.set_default_dtype(before)


def _ready(model: Any, dtype: torch.dtype) -> Any:
    return drawn_anew(model).to(dtype).eval().requires_grad_(False)


def _calling(after_step: AfterStep) -> Any:
    def call(pipeline: Any, index: int, when: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        after_step()
        return tensors

    return call


def _frame(request: RenderRequest) -> Any:
    return framed(request.image, request.parameters)


def _framed(request: RenderRequest) -> PillowImage.Image:
    return PillowImage.fromarray(_frame(request))


def _ignore(step: Step) -> None:
    """Report nothing."""
