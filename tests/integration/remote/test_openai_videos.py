"""The `openai-videos` engine against stand-ins of the servers that it forwards to."""

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import openai
import PIL.Image
import pytest

from shared.engines.entries import EngineEntry, EngineKind
from shared.errors import InvalidRequest, PutOff
from shared.settings import Settings
from tests.support import receiver as twin
from tests.support.elsewhere import FRAMES, HEIGHT, WIDTH, request
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.video_server import OPENAI, SGLANG, VLLM, VideoServer, video_server
from worker.engines import chosen, find_own
from worker.engines.base import Frames, RenderRequest, Step, Unkept
from worker.engines.remote.errors import (
    ContentRefused,
    KeyRefused,
    ResultGone,
    ResultUnusable,
    TaskFailed,
)
from worker.engines.remote.openai_videos.address import addresses
from worker.engines.remote.openai_videos.backend import BackendLimits
from worker.engines.remote.openai_videos.engine import OpenAIVideosEngine
from worker.engines.remote.patience import Patience
from worker.engines.remote.task import NAME

CANARY = "a-canary-key-of-the-tests"
QUICK = Patience(first_look=0.01, longest_look=0.02, elsewhere=0.05, hold=0.3)
NO_PAUSES = BackendLimits(fail_pause_seconds=0)


@pytest.fixture(params=[OPENAI, VLLM, SGLANG])
def server(request: pytest.FixtureRequest) -> Iterator[VideoServer]:
    with video_server(request.param) as server:
        yield server


@pytest.fixture
def omni() -> Iterator[VideoServer]:
    with video_server(VLLM) as server:
        yield server


def engine(
    *servers: VideoServer, limits: BackendLimits = NO_PAUSES, **settings: Any
) -> OpenAIVideosEngine:
    entries = chosen(",".join(each.entry() for each in servers), has_gpu=False)
    made = OpenAIVideosEngine(Settings(_env_file=None, **settings), entries["wan-fast"], limits)
    made.patience = QUICK
    return made


def rendered(
    made: OpenAIVideosEngine, prompt: str = "the steam rises", **values: Any
) -> tuple[Frames, RenderRequest]:
    kept = values.pop("kept", None) or Unkept()
    asked = request(kept, prompt=prompt, **values)
    return np.concatenate(list(made.render(asked, quiet))), asked


def quiet(step: Step) -> None:
    pass


def test_a_clip_comes_as_it_was_asked_for(server: VideoServer) -> None:
    frames, asked = rendered(engine(server), seed=11, negative_prompt="blur")
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert np.all(np.diff(frames.mean(axis=(1, 2, 3))) > 0), "each frame in its place"
    (form,) = server.forms
    assert form == {
        "model": "wan",
        "prompt": "the steam rises",
        "negative_prompt": "blur",
        "size": f"{WIDTH}x{HEIGHT}",
        "seconds": "1",
        "num_frames": str(FRAMES),
        "fps": "8",
        "seed": "11",
        "num_inference_steps": "4",
        "guidance_scale": "3",
    }
    with PIL.Image.open(io.BytesIO(server.images[0])) as image:
        assert (image.format, image.size) == ("PNG", (WIDTH, HEIGHT))
    assert asked.notes.warnings == []


def test_the_plan_names_who_renders_and_the_spec_that_it_is_generated(omni: VideoServer) -> None:
    made = engine(omni)
    plan = made.plan(request(Unkept()))
    assert (plan["provider"], plan["remote_model"]) == ("openai-videos", "wan")
    assert made.spec.ai_generated
    assert "cancel" in made.spec.description
    assert str(omni.port) not in made.spec.model_dump_json(), "where it is, is the operator's"


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
def test_what_the_official_client_sends_is_what_we_send(omni: VideoServer) -> None:
    """The stand-in also answers in the form that the official client reads."""
    rendered(engine(omni))
    client = openai.OpenAI(
        base_url=omni.base, api_key="x", max_retries=0, _strict_response_validation=True
    )
    made = client.videos.create(
        model="wan",
        prompt="the steam rises",
        seconds="4",
        size="1280x720",
        input_reference=("image.png", omni.images[0], "image/png"),
    )
    ours, theirs = omni.forms
    assert set(theirs) <= set(ours)
    assert omni.images[0] == omni.images[1]
    assert omni.headers[0]["content-type"].startswith("multipart/form-data; boundary=")
    assert client.videos.retrieve(made.id).status == "completed"
    # This form is small, so its clip is made quickly.
    omni.tasks[made.id]["form"] = ours
    assert client.videos.download_content(made.id).read() == omni.clip(ours)
    assert client.videos.delete(made.id).deleted is True


def test_a_failed_video_fails_the_job_in_the_servers_words(server: VideoServer) -> None:
    with pytest.raises(TaskFailed, match="CUDA out of memory"):
        rendered(engine(server), "fail")
    assert server.counts["create"] == 1


def test_a_refused_prompt_is_an_error_of_its_own(omni: VideoServer) -> None:
    with pytest.raises(ContentRefused, match="refused"):
        rendered(engine(omni), "refuse")


def test_a_server_that_is_busy_is_asked_again_later(server: VideoServer) -> None:
    made, kept = engine(server), Unkept()
    for _ in range(2):
        with pytest.raises(PutOff):
            rendered(made, "busy", kept=kept)
    rendered(made, "busy", kept=kept)
    assert len(server.tasks) == 1


@pytest.mark.parametrize(("kind", "is_ended"), [(OPENAI, True), (VLLM, True), (SGLANG, False)])
def test_a_cancel_says_whether_the_server_ended_it(kind: str, is_ended: bool) -> None:
    with video_server(kind) as server:
        made, kept = engine(server), Unkept()
        rendered(made, kept=kept)
        value = kept.read(NAME)
        assert value is not None
        told = made.end_elsewhere(value)
        assert told == {"reached": is_ended, "may_still_cost": not is_ended}
        assert made.end_elsewhere(value) == {"reached": True, "may_still_cost": False}


def test_a_cancel_that_is_not_answered_is_tried_again() -> None:
    server = VideoServer()
    made, kept = engine(server), Unkept()
    rendered(made, kept=kept)
    server.close()
    value = kept.read(NAME)
    assert value is not None
    assert made.end_elsewhere(value) is None


def test_a_second_back_end_is_asked_where_the_first_is_away() -> None:
    gone = VideoServer()
    gone.close()
    with video_server() as there:
        made = engine(gone, there)
        for _ in range(3):
            rendered(made)
        assert there.counts["create"] == 3


def test_a_second_back_end_is_asked_where_the_first_has_forgotten() -> None:
    with video_server() as first, video_server() as second:
        made, kept = engine(first, second), Unkept()

        def forget(step: Step) -> None:
            first.forget()

        asked = request(kept, prompt="hold")
        second.release()
        list(made.render(asked, forget))
        assert (first.counts["create"], second.counts["create"]) == (1, 1)


def test_jobs_go_to_the_back_end_that_has_least_to_do() -> None:
    with video_server() as first, video_server() as second:
        made = engine(first, second)
        held = made.render(request(Unkept(), prompt="hold"), quiet)

        def rendered_meanwhile(step: Step) -> None:
            if not second.counts["create"] and first.counts["look"]:
                rendered(made)
                first.release()

        held = made.render(request(Unkept(), prompt="hold"), rendered_meanwhile)
        list(held)
        assert (first.counts["create"], second.counts["create"]) == (1, 1)


def test_a_link_is_followed_only_where_a_clients_link_may_lead(omni: VideoServer) -> None:
    omni.kind = SGLANG
    with Receiver() as store:
        omni.link = store.url("/clip.mp4")
        with pytest.raises(ResultUnusable, match="OUTBOUND_ALLOW"):
            rendered(engine(omni))
        assert store.connects == 0
        form = {"size": f"{WIDTH}x{HEIGHT}", "num_frames": str(FRAMES), "fps": "8"}
        store.script("/clip.mp4", twin.status(200, omni.clip(form), Content_Type="video/mp4"))
        made = engine(omni, outbound_allow="127.0.0.0/8", openai_videos_key=CANARY)
        frames, _ = rendered(made)
        assert len(frames) == FRAMES
        assert CANARY not in str(store.requests)
        store.script("/clip.mp4", twin.status(403, b"expired"))
        with pytest.raises(ResultGone):
            rendered(made)


def test_the_key_goes_to_the_server_and_nowhere_else(
    omni: VideoServer, caplog: pytest.LogCaptureFixture
) -> None:
    made, kept = engine(omni, openai_videos_key=CANARY), Unkept()
    _, asked = rendered(made, kept=kept)
    assert omni.headers[0]["authorization"] == f"Bearer {CANARY}"
    with suppress(TaskFailed):
        rendered(made, "fail")
    told = (made.plan(asked), asked.notes.facts, kept.read(NAME), made.spec, caplog.text)
    assert CANARY not in str(told)


def test_a_key_that_is_refused_is_told_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with video_server() as server:
        monkeypatch.setattr(server, "create", lambda *_: (401, {"error": {"message": CANARY}}))
        with pytest.raises(KeyRefused) as caught:
            rendered(engine(server, openai_videos_key=CANARY))
    assert CANARY not in caught.value.message


def test_what_is_no_video_is_refused(omni: VideoServer) -> None:
    omni.clip_type = "text/html; charset=utf-8"
    with pytest.raises(ResultUnusable, match="text/html"):
        rendered(engine(omni))
    omni.clip_type = "video/mp4"
    omni.clip = lambda form: b"<html>" * 100  # type: ignore[method-assign]
    with pytest.raises(ResultUnusable, match="not an MP4"):
        rendered(engine(omni))


def test_a_clip_that_is_too_large_or_does_not_end_is_refused(
    omni: VideoServer,
) -> None:
    omni.kind = SGLANG
    with Receiver() as store:
        omni.link = store.url("/clip.mp4")
        small = replace(NO_PAUSES, clip_bytes=5_000)
        made = engine(omni, limits=small, outbound_allow="127.0.0.0/8")
        store.script("/clip.mp4", twin.endless_body())
        with pytest.raises(ResultUnusable, match="MiB"):
            rendered(made)
        short = replace(NO_PAUSES, download=timedelta(seconds=0.5), clip_bytes=5 << 20)
        made = engine(omni, limits=short, outbound_allow="127.0.0.0/8")
        store.script("/clip.mp4", twin.drip_body(0.02))
        with pytest.raises(ResultUnusable, match="completely"):
            rendered(made)


def test_a_longer_clip_is_cut_and_a_much_shorter_one_is_refused(omni: VideoServer) -> None:
    omni.frames_more = 3
    frames, asked = rendered(engine(omni))
    assert (len(frames), asked.notes.facts["frames_rendered"]) == (FRAMES, FRAMES + 3)
    omni.frames_more = -4
    with pytest.raises(ResultUnusable, match="too short"):
        rendered(engine(omni), fps=9)
    omni.frames_more = -1
    frames, asked = rendered(engine(omni), fps=10)
    assert len(frames) == FRAMES
    assert "held" in asked.notes.warnings[0]


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (["http://a:8000/v1?model=wan&frames=8"], "frames is not known"),
        (["http://a:8000/v1?model=wan&fps=much"], "has impossible values"),
        (["http://a:8000/v1?model=wan", "http://b:8000/v1?model=ltx"], "differ"),
        (["http://a:8000/v1?model=wan", "http://a:8000/v2?model=wan"], "twice"),
        (["http://a:22/v1?model=wan"], "port 22"),
    ],
)
def test_an_address_that_cannot_be_is_refused_by_name(targets: list[str], reason: str) -> None:
    entry = EngineEntry("wan-fast", EngineKind.OPENAI_VIDEOS, tuple(targets))
    with pytest.raises(InvalidRequest, match=f"wan-fast.*{reason}"):
        find_own([entry])


def test_an_address_says_what_the_model_does_by_default() -> None:
    target = f"http://h:{free_port()}/v1?model=org/Wan%2C2&num_frames=49&fps=24&resolution=768p"
    (found,) = addresses(EngineEntry("w", EngineKind.OPENAI_VIDEOS, (target,)))
    assert found.model == "org/Wan,2"
    assert (found.defaults.num_frames, found.defaults.fps) == (49, 24)
    assert found.defaults.resolution == "768p"
