"""A small random checkpoint of Stable Video Diffusion; its clips are noise."""

from pathlib import Path
from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from worker.engines.diffusion.tiny import CLIP_PREPROCESSOR, drawn_anew, write_json

WIDTH: Final = 32  # The library fixes 32 groups, so no block can be narrower.

INDEX: Final = {
    "_class_name": "StableVideoDiffusionPipeline",
    "_diffusers_version": "0.24.0.dev0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
    "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
}


def tiny_svd(folder: Path) -> Path:
    """Return `folder` with a small random checkpoint, built if it does not exist: some 6 MB.

    The folder works as STILLREEL_MODEL_DIR, for svd and for svd-xt.
    """
    index = folder / "model_index.json"
    if index.is_file():
        return folder
    with torch.random.fork_rng():
        torch.manual_seed(14)
        _vae().save_pretrained(folder / "vae")
        _image_encoder().save_pretrained(folder / "image_encoder")
        _unet().save_pretrained(folder / "unet")
    svd_scheduler().save_pretrained(folder / "scheduler")
    write_json(folder / "feature_extractor" / "preprocessor_config.json", CLIP_PREPROCESSOR)
    write_json(index, INDEX)
    return folder


def _vae() -> Any:
    return drawn_anew(
        AutoencoderKLTemporalDecoder(
            block_out_channels=(WIDTH,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
        )
    )


def _image_encoder() -> Any:
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=WIDTH,
        image_size=224,
        patch_size=56,
    )
    return drawn_anew(CLIPVisionModelWithProjection(config))


def _unet() -> Any:
    return drawn_anew(
        UNetSpatioTemporalConditionModel(
            sample_size=16,
            block_out_channels=(WIDTH, WIDTH),
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            num_attention_heads=(2, 2),
            addition_time_embed_dim=WIDTH,
            projection_class_embeddings_input_dim=3 * WIDTH,
        )
    )


def svd_scheduler() -> Any:
    """Return the scheduler of the real checkpoint."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
