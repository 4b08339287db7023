"""Code shared by the builders of small random checkpoints. Their clips are noise."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, T5Tokenizer

LETTERS: Final = "".join(map(chr, range(33, 127)))
T5_VOCABULARY: Final = (
    *(("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)),
    *((letter, -3.0) for letter in LETTERS),
)
WEAKEST: Final = 0.1

CLIP_PREPROCESSOR: Final = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
}


def drawn_anew(model: Any) -> Any:
    """Return the model with random values for weights that start at zero or too small to matter.

    A zero layer hides every error behind it, and SparseCtrl's would hide the image.
    """
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(std=0.2)
            elif weight.dim() > 1 and 0 < weight.std() < WEAKEST:  # 0: a norm, all ones.
                weight.mul_(WEAKEST / weight.std())
    return model


def write_t5_tokenizer(folder: Path) -> None:
    """Write a tokenizer of the printable ASCII letters, in the format of T5's on the hub."""
    T5Tokenizer(vocab=list(T5_VOCABULARY), extra_ids=0).save_pretrained(folder)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


CLIP_FRAMES: Final = ("<|startoftext|>", "<|endoftext|>")


def clip_vocabulary() -> dict[str, int]:
    """Return every byte, alone and at a word's end, then a sentence's begin and end tokens."""
    letters = sorted(ByteLevel.alphabet())
    words = (*letters, *(f"{letter}</w>" for letter in letters), *CLIP_FRAMES)
    return {word: number for number, word in enumerate(words)}


def write_clip_tokenizer(folder: Path) -> None:
    """Write a tokenizer of single bytes, in the format of CLIP's on the hub."""
    start, end = CLIP_FRAMES
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    write_json(folder / "vocab.json", clip_vocabulary())
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"},
    )


def small_clip_text_encoder(width: int, *, layers: int, act: str = "quick_gelu") -> Any:
    """Return CLIP's encoder of texts, for `write_clip_tokenizer`'s tokens."""
    vocabulary = clip_vocabulary()
    start, end = (vocabulary[word] for word in CLIP_FRAMES)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        projection_dim=width,
        hidden_act=act,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    return drawn_anew(CLIPTextModel(config))


def small_image_vae(channels: Sequence[int]) -> Any:
    """Return the VAE of Stable Diffusion, a block for each of `channels`."""
    return drawn_anew(
        AutoencoderKL(
            block_out_channels=tuple(channels),
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
        )
    )
