"""The state of each engine's weights on this machine; quick: no loading and no request."""

from shared.engines.weights import WeightsState, WeightsView
from shared.settings import Settings
from worker.download.lock import is_locked
from worker.download.manifest import read_manifest
from worker.engines.diffusion.checkpoint import Layout, local_folder, pulled
from worker.engines.diffusion.pull import may_download
from worker.weights.catalogue import LAYOUTS


def look(engine: str, settings: Settings) -> WeightsView | None:
    """Return the state of an engine's weights; None if they are not ours to report."""
    layout = LAYOUTS.get(engine)
    return None if layout is None else look_at(layout, settings)


def look_at(layout: Layout, settings: Settings) -> WeightsView:
    """Return the state of the weights of such a layout."""
    if settings.model_dir is not None:
        is_there = local_folder(layout.name, settings.model_dir) is not None
        return WeightsView(
            state=WeightsState.READY if is_there else WeightsState.MISSING,
            message=None if is_there else "STILLREEL_MODEL_DIR holds no checkpoint of it",
        )
    return _downloaded(layout, settings)


def _downloaded(layout: Layout, settings: Settings) -> WeightsView:
    folder = settings.weights_folder / layout.name
    manifest = read_manifest(folder)
    total = manifest.total_bytes if manifest else None
    if pulled(layout, settings) is not None:
        return WeightsView(state=WeightsState.READY, bytes_done=total, bytes_total=total)
    done = manifest.done_bytes(folder) if manifest else 0
    if is_locked(folder):
        return WeightsView(state=WeightsState.DOWNLOADING, bytes_done=done, bytes_total=total)
    how = (
        "they are downloaded when it is first used"
        if may_download(settings)
        else f"this worker may not download them: python -m worker.weights pull {layout.name}"
    )
    return WeightsView(state=WeightsState.MISSING, bytes_done=done, bytes_total=total, message=how)
