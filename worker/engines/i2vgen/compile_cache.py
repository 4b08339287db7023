"""Compiled code, stored on disk from one start of a worker to the next."""

import os
import re
from pathlib import Path
from typing import Final

import torch
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

CACHE_VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"


def keep_on_disk(folder: Path, device: torch.device) -> Path | None:
    """Store compiled code under `folder` for the next start, by torch and device.

    It returns the folder, or None if one was set from outside, which is then used.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    words = re.sub(r"[^A-Za-z0-9.+]+", "-", f"torch-{torch.__version__}-{name}")
    place = folder.absolute() / words
    # torch sets its own default while it is imported, so a set value says nothing yet.
    if os.environ.get(CACHE_VARIABLE) not in (None, default_cache_dir(), str(place)):
        return None
    os.environ[CACHE_VARIABLE] = str(place)
    return place
