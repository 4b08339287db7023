"""Where the weights come from, and what is refused as weights."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import Drained, MissingWeights
from shared.settings import Settings
from tests.support.checkpoints import small_i2vgen_xl
from worker.engines.base import OnProgress
from worker.engines.i2vgen.checkpoint import LAYOUT
from worker.engines.i2vgen.engine import SPEC, I2VGenXLEngine


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_i2vgen_xl(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def checkpoint(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of a small checkpoint, which the test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "i2vgen-xl"))


def test_the_folder_may_be_the_checkpoint_or_hold_it(checkpoint: Path) -> None:
    for model_dir in (checkpoint, checkpoint.parent):
        assert load(model_dir=model_dir).model is not None


def test_a_load_tells_how_far_it_is_part_by_part(checkpoint: Path) -> None:
    told: list[tuple[float, str]] = []
    load(lambda fraction, what: told.append((fraction, what)), model_dir=checkpoint)

    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert {f"loading {part}" for part in LAYOUT.weighted} <= {what for _, what in told}


def test_a_load_may_be_stopped_between_parts(checkpoint: Path) -> None:
    def drain(fraction: float, what: str) -> None:
        raise Drained("stopping")

    with pytest.raises(Drained):
        load(drain, model_dir=checkpoint)


def test_half_precision_files_serve_where_there_are_no_others(checkpoint: Path) -> None:
    as_halves(checkpoint)

    model = load(model_dir=checkpoint).model

    assert model is not None
    assert model.unet.dtype is torch.float32


def test_the_spec_names_the_pinned_commit_only_where_it_is_what_loads(checkpoint: Path) -> None:
    assert I2VGenXLEngine(settings()).spec == SPEC
    assert SPEC.revision == LAYOUT.revision
    assert I2VGenXLEngine(settings(model_dir=checkpoint)).spec.revision == "local"


def test_a_folder_without_a_checkpoint_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="STILLREEL_MODEL_DIR holds no i2vgen-xl checkpoint"):
        load(model_dir=tmp_path)


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no unet": (lambda folder: shutil.rmtree(folder / "unet"), "has no unet"),
    "no tokenizer": (lambda folder: shutil.rmtree(folder / "tokenizer"), "has no tokenizer"),
    "no config": (lambda folder: (folder / "vae/config.json").unlink(), "has no vae"),
    "another model": (
        lambda folder: (folder / "model_index.json").write_text('{"_class_name": "Other"}'),
        "is of Other",
    ),
    "unreadable index": (
        lambda folder: (folder / "model_index.json").write_text("{"),
        "unreadable kind",
    ),
    "code at the top": (lambda folder: (folder / "pipeline.py").touch(), "never run"),
    "code in a part": (lambda folder: (folder / "unet" / "model.py").touch(), "never run"),
    "damaged": (
        lambda folder: (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"x" * 9),
        "unet cannot be read",
    ),
    "damaged text": (
        lambda folder: (folder / "text_encoder/model.safetensors").write_bytes(b"x" * 9),
        "text_encoder cannot be read",
    ),
    "no mean": (
        lambda folder: (folder / "feature_extractor/preprocessor_config.json").write_text("{}"),
        "no image_mean",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_checkpoint_is_refused_with_its_fault(
    checkpoint: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    spoil(checkpoint)

    with pytest.raises(MissingWeights, match=said):
        load(model_dir=checkpoint)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl", ".ckpt"])
@pytest.mark.parametrize("part", LAYOUT.weighted)
def test_pickles_are_refused_as_weights(checkpoint: Path, part: str, suffix: str) -> None:
    (weights,) = (checkpoint / part).glob("*.safetensors")
    weights.rename(weights.with_suffix(suffix))

    with pytest.raises(MissingWeights, match=f"{part} is there only as .*{suffix}"):
        load(model_dir=checkpoint)


@pytest.mark.parametrize("part", LAYOUT.weighted)
def test_weights_missing_from_a_file_are_not_made_up(checkpoint: Path, part: str) -> None:
    (path,) = (checkpoint / part).glob("*.safetensors")
    weights = load_file(path)
    lost = next(name for name in sorted(weights) if name.endswith("weight"))
    save_file({k: v for k, v in weights.items() if k != lost}, path, metadata={"format": "pt"})

    with pytest.raises(MissingWeights, match=f"{part} lacks 1 of its weights"):
        load(model_dir=checkpoint)


def test_the_hubs_names_for_the_text_encoder_are_understood(checkpoint: Path) -> None:
    model = load(model_dir=checkpoint).model
    saved = load_file(checkpoint / "text_encoder" / "model.safetensors")

    assert model is not None
    torch.testing.assert_close(
        model.text_encoder.final_layer_norm.weight, saved["text_model.final_layer_norm.weight"]
    )


def test_a_hub_out_of_reach_says_what_to_set(
    empty_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Offline by decree: a refused connection is tried again by the library for 23 seconds.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(MissingWeights, match="STILLREEL_HF_ENDPOINT to a mirror, or STILLREEL_M"):
        load(hf_endpoint="http://127.0.0.1:9")


def test_a_mirror_without_the_model_says_what_to_set(mirror: "Mirror", empty_cache: None) -> None:
    with pytest.raises(MissingWeights, match="STILLREEL_HF_ENDPOINT to a mirror, or STILLREEL_M"):
        load(hf_endpoint=f"{mirror.url}/elsewhere")


def test_a_mirror_serves_the_pinned_commit_and_only_what_is_needed(
    mirror: "Mirror", empty_cache: None
) -> None:
    told: list[str] = []
    engine = load(lambda fraction, what: told.append(what), hf_endpoint=mirror.url)

    assert engine.model is not None
    assert {path.suffix for path in mirror.given} == {".json", ".txt", ".safetensors"}
    assert all(".fp16." in path.name for path in mirror.given if path.suffix == ".safetensors")

    mirror.given.clear()
    load(hf_endpoint=mirror.url)
    assert mirror.given == set()


def test_a_download_stops_when_its_owner_does(mirror: "Mirror", empty_cache: None) -> None:
    mirror.hold.clear()

    def drain(fraction: float, what: str) -> None:
        mirror.hold.set()
        raise Drained("stopping")

    with pytest.raises(Drained):
        load(drain, hf_endpoint=mirror.url)


def test_modelscope_without_its_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)

    with pytest.raises(MissingWeights, match="pip install modelscope"):
        load(model_source="modelscope")


def test_modelscope_is_asked_for_its_own_name_of_the_model(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    library = ModuleType("modelscope")

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        return str(checkpoint)

    library.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modelscope", library)

    assert load(model_source="modelscope").model is not None
    assert asked == ["iic/i2vgen-xl"]


def test_the_spec_needs_neither_torch_nor_diffusers() -> None:
    script = (
        "import sys; from worker.engines.i2vgen.engine import SPEC; print(SPEC.name,"
        " sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert ran.stdout.strip() == "i2vgen-xl []"


@dataclass
class Mirror:
    """A hub on loopback that serves one checkpoint, and remembers which files it gave."""

    folder: Path
    url: str = ""
    given: set[Path] = field(default_factory=set)
    hold: threading.Event = field(default_factory=threading.Event)

    def tree(self) -> list[dict[str, object]]:
        return [
            {
                "type": "file",
                "path": path.relative_to(self.folder).as_posix(),
                "size": path.stat().st_size,
                "oid": "0" * 40,
            }
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        ]


@pytest.fixture
def mirror(checkpoint: Path) -> Iterator[Mirror]:
    as_halves(checkpoint)
    (checkpoint / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (checkpoint / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"twice as large")
    (checkpoint / "README.md").write_text("a model")
    mirror = Mirror(checkpoint)
    mirror.hold.set()
    server = Hub(("127.0.0.1", 0), serving(mirror))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    mirror.url = f"http://127.0.0.1:{server.server_port}"
    yield mirror
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


class Hub(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of a download that was stopped: its thread is not pytest's."""


def serving(mirror: Mirror) -> type[BaseHTTPRequestHandler]:
    resolve = f"/{LAYOUT.hub_id}/resolve/{LAYOUT.revision}/"

    class Files(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            if path == f"/api/models/{LAYOUT.hub_id}/tree/{LAYOUT.revision}":
                self.send(json.dumps(mirror.tree()).encode(), with_body=True)
            elif path.startswith(resolve):
                file = mirror.folder / path.removeprefix(resolve)
                if with_body:
                    mirror.given.add(file)
                    mirror.hold.wait(timeout=30)
                self.send(file.read_bytes(), with_body=with_body)
            else:
                self.send_error(404)

        def send(self, body: bytes, *, with_body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", LAYOUT.revision)
            self.send_header("ETag", f'"{abs(hash(body)):x}"')
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Files


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def as_halves(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


def load(on_progress: OnProgress = lambda fraction, what: None, **given: Any) -> I2VGenXLEngine:
    engine = I2VGenXLEngine(settings(**given))
    engine.load("cpu", on_progress)
    return engine
