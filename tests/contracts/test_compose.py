"""The container side, as far as tests can check it without starting a container."""

import itertools
import json
import re
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.settings import SECRETS_DIR_VARIABLE, Settings
from tests.support.composed import PROFILES, ROOT, Service, compose, resolved
from worker.supervisor.supervisor import KILL_MARGIN_SECONDS

COMBINATIONS = [
    combination
    for size in range(len(PROFILES) + 1)
    for combination in itertools.combinations(PROFILES, size)
]
ONE_SHOTS = frozenset({"secrets", "migrate", "bucket", "models"})
SERVING = ("gateway", "keeper", "worker-cpu", "remote-worker", "worker")
OURS = frozenset({"migrate", "bucket", "models", *SERVING})
BESIDE_SETTINGS = frozenset(
    {
        SECRETS_DIR_VARIABLE,
        *("STILLREEL_BIND", "STILLREEL_MODELS", "STILLREEL_CLOSE_INSIDE"),
        "STILLREEL_REMOTE_ENGINES",
    }
)
"""Names that only the compose file reads, or that say where the settings are."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with only the compose file: it has no `.env`, and nothing ran there before."""
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    """Every service of every profile, as Compose understands it."""
    alone = tmp_path_factory.mktemp("compose")
    shutil.copy(ROOT / "docker-compose.yml", alone)
    return resolved(alone)


@pytest.mark.parametrize("profiles", COMBINATIONS, ids=lambda names: "+".join(names) or "default")
def test_compose_accepts_every_combination_of_profiles(
    folder: Path, profiles: tuple[str, ...]
) -> None:
    started = resolved(folder, profiles)
    assert {"gateway", "keeper", "worker-cpu"} <= started.keys()
    assert ("worker" in started) == ("gpu" in profiles)
    assert ("remote-worker" in started) == ("remote" in profiles)
    assert ("grafana" in started) == ("monitoring" in profiles)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("healthcheck:", "heathcheck:"), ("condition: service_healthy", "condition: service_hale")],
)
def test_compose_refuses_a_broken_file(folder: Path, right: str, wrong: str) -> None:
    file = folder / "docker-compose.yml"
    file.write_text(file.read_text().replace(right, wrong, 1))
    assert compose(folder, "config", "-q").returncode != 0


def test_only_the_gateway_is_published_and_only_on_loopback(folder: Path) -> None:
    started = resolved(folder, profiles=())
    published = {name: service["ports"] for name, service in started.items() if "ports" in service}
    assert published.keys() == {"gateway"}
    assert [(port["host_ip"], port["published"]) for port in published["gateway"]] == [
        ("127.0.0.1", "7860")
    ]


def test_no_setting_opens_the_monitoring_to_others(folder: Path) -> None:
    opened = resolved(folder, STILLREEL_BIND="0.0.0.0", STILLREEL_ALLOW_ANONYMOUS="1")  # noqa: S104
    for name in ("prometheus", "grafana"):
        assert [port["host_ip"] for port in opened[name]["ports"]] == ["127.0.0.1"]


def test_opening_the_port_takes_a_word_on_strangers(folder: Path) -> None:
    refused = compose(folder, "config", "-q", STILLREEL_BIND="0.0.0.0")  # noqa: S104
    assert refused.returncode != 0
    assert "STILLREEL_ALLOW_ANONYMOUS" in refused.stderr
    said = resolved(folder, (), STILLREEL_BIND="10.0.0.5", STILLREEL_ALLOW_ANONYMOUS="0")
    assert said["gateway"]["ports"][0]["host_ip"] == "10.0.0.5"
    assert said["gateway"]["environment"]["STILLREEL_ALLOW_ANONYMOUS"] == "0"


def test_every_container_is_confined(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["driver"] == "json-file", name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name


def test_only_the_drawing_of_secrets_is_root_and_it_has_no_network(
    services: dict[str, Service],
) -> None:
    roots = {
        name
        for name, service in services.items()
        # The image of Prometheus has its own user.
        if service.get("user", "0").split(":")[0] == "0" and name != "prometheus"
    }
    assert roots == {"secrets"}
    assert services["secrets"]["network_mode"] == "none"
    assert services["secrets"]["cap_add"] == ["CHOWN"]
    assert all("cap_add" not in service for name, service in services.items() if name not in roots)


def test_what_runs_for_long_is_watched_and_started_again(services: dict[str, Service]) -> None:
    for name, service in services.items():
        if name in ONE_SHOTS:
            assert service["restart"] in {"no", "on-failure:5"}, name
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name


def test_our_processes_start_when_the_tables_and_the_bucket_are_there(
    services: dict[str, Service],
) -> None:
    for name in SERVING:
        waits_for = {
            other: asked["condition"] for other, asked in services[name]["depends_on"].items()
        }
        assert waits_for.items() >= {
            ("migrate", "service_completed_successfully"),
            ("bucket", "service_completed_successfully"),
            ("valkey", "service_healthy"),
        }
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("postgres", "valkey", "s3"):
        drawn = services[name]["depends_on"]["secrets"]
        assert drawn["condition"] == "service_completed_successfully"


def test_a_worker_has_longer_to_stop_than_its_drain_takes(services: dict[str, Service]) -> None:
    longest = timedelta(
        seconds=Settings.model_fields["drain_seconds"].default + KILL_MARGIN_SECONDS
    )
    for name in ("worker", "worker-cpu", "remote-worker"):
        assert _duration(services[name]["stop_grace_period"]) > longest


def test_the_gpu_worker_gets_every_card(services: dict[str, Service]) -> None:
    devices = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert [(d["driver"], d["count"], d["capabilities"]) for d in devices] == [
        ("nvidia", -1, ["gpu"])  # -1 means `all`
    ]
    assert all("deploy" not in service for name, service in services.items() if name != "worker")


def test_what_renders_elsewhere_gets_engines_of_its_own_and_a_way_out(folder: Path) -> None:
    entry = "wan-fast=openai-videos:http://vllm:8000/v1?model=wan"
    own = resolved(
        folder,
        STILLREEL_REMOTE_ENGINES=entry,
        STILLREEL_ENGINES="camera",
        STILLREEL_OPENAI_VIDEOS_KEY="a-key",
    )
    for name in SERVING:
        has_key = own[name]["environment"]["STILLREEL_OPENAI_VIDEOS_KEY"] == "a-key"
        assert has_key == (name == "remote-worker"), name
    assert own["remote-worker"]["environment"]["STILLREEL_ENGINES"] == entry
    assert own["remote-worker"]["environment"]["STILLREEL_GPUS"] == "none"
    assert set(own["remote-worker"]["networks"]) == {"inside", "outside"}
    assert set(own["worker-cpu"]["networks"]) == {"inside"}


def test_missing_weights_do_not_keep_the_gpu_worker_from_starting(
    services: dict[str, Service],
) -> None:
    assert services["worker"]["depends_on"]["models"]["required"] is False
    weights = {name: _mount(services[name], "/models") for name in ("worker", "models")}
    assert weights["worker"]["source"] == weights["models"]["source"] == "models"
    assert weights["worker"]["read_only"]
    assert not weights["models"].get("read_only", False)


def test_compiled_code_outlives_the_container(services: dict[str, Service]) -> None:
    mount = _mount(services["worker"], "/compiled")
    assert (mount["type"], mount["source"]) == ("volume", "compiled")
    assert not mount.get("read_only", False)


def test_the_weights_may_lie_in_a_folder_of_the_host(folder: Path) -> None:
    own = resolved(folder, STILLREEL_MODELS="/srv/weights")
    mount = _mount(own["worker"], "/models")
    assert (mount["type"], mount["source"]) == ("bind", "/srv/weights")


def test_a_mirror_named_in_the_shell_reaches_the_download(folder: Path) -> None:
    own = resolved(
        folder,
        HF_ENDPOINT="https://one.example",
        STILLREEL_HF_ENDPOINT="https://two.example",
        HF_TOKEN="hf_three",
    )
    environment = own["models"]["environment"]
    assert environment["HF_TOKEN"] == "hf_three"
    assert "HF_TOKEN" not in own["worker"]["environment"]
    assert own["worker"]["environment"]["STILLREEL_DOWNLOAD_WEIGHTS"] == "0"
    assert environment["HF_ENDPOINT"] == "https://one.example"
    assert environment["STILLREEL_HF_ENDPOINT"] == "https://two.example"


def test_an_index_of_ones_own_reaches_every_build(folder: Path) -> None:
    own = resolved(folder, PIP_INDEX_URL="https://index.example/simple")
    built = {name: service["build"] for name, service in own.items() if "build" in service}
    assert {build["target"] for build in built.values()} == {"gateway", "worker-cpu", "worker"}
    for build in built.values():
        assert build["args"] == {"PIP_INDEX_URL": "https://index.example/simple"}


def test_each_image_is_built_by_one_service_that_its_users_wait_for(
    services: dict[str, Service],
) -> None:
    builders = {s["image"]: name for name, s in services.items() if "build" in s}
    for name, service in services.items():
        builder = builders.get(service["image"])
        assert builder in {None, name} or builder in _needed(services, name), name


def test_foreign_images_are_pinned_to_a_version(services: dict[str, Service]) -> None:
    built = {service["image"] for service in services.values() if "build" in service}
    foreign = {service["image"] for service in services.values()} - built
    assert len(foreign) == 5
    for image in foreign:
        assert re.search(r":v?\d+\.\d+", image), image


def test_settings_in_dotenv_reach_our_processes(folder: Path) -> None:
    (folder / ".env").write_text("STILLREEL_RETAIN_SECONDS=99\nSTILLREEL_HOST=127.0.0.1\n")
    started = resolved(folder)
    for name in OURS:
        assert started[name]["environment"]["STILLREEL_RETAIN_SECONDS"] == "99", name
    assert started["gateway"]["environment"]["STILLREEL_HOST"] == "0.0.0.0"  # noqa: S104


def test_a_model_named_in_dotenv_is_left_to_the_cards(folder: Path) -> None:
    (folder / ".env").write_text("STILLREEL_ENGINES=i2vgen-xl\n")
    started = resolved(folder)
    assert started["worker"]["environment"]["STILLREEL_ENGINES"] == "i2vgen-xl"
    assert started["worker-cpu"]["environment"]["STILLREEL_ENGINES"] == "camera"
    assert started["worker-cpu"]["environment"]["STILLREEL_GPUS"] == "none"


def test_the_keys_of_providers_reach_their_worker_alone(folder: Path) -> None:
    key = "planted-provider-key-5d0c7e21"
    (folder / ".env").write_text(
        f"STILLREEL_RUNWAY_KEY={key}\nSTILLREEL_FAL_KEY_FILE=/srv/fal\n"
        "STILLREEL_REMOTE_ENGINES=gen4=runway:gen4_turbo?usd_per_second=0.05\n"
    )
    started = resolved(folder)
    told = started["remote-worker"]["environment"]
    assert told["STILLREEL_RUNWAY_KEY"] == key
    assert told["STILLREEL_RUNWAY_KEY_FILE"] == ""
    assert told["STILLREEL_FAL_KEY_FILE"] == "/run/secrets/fal_key"
    assert told["STILLREEL_ENGINES"] == "gen4=runway:gen4_turbo?usd_per_second=0.05"
    assert set(started["remote-worker"]["networks"]) == {"inside", "outside"}
    for name, service in started.items():
        if name != "remote-worker":
            assert key not in json.dumps(service), name


def test_every_setting_in_the_file_is_one_and_the_others_are_explained() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    named = set(re.findall(r"STILLREEL_[A-Z0-9_]+", text))
    fields = {f"STILLREEL_{field.upper()}" for field in Settings.model_fields}
    assert named - fields == BESIDE_SETTINGS
    operations = (ROOT / "docs" / "operations.md").read_text()
    assert all(name in operations for name in BESIDE_SETTINGS | {"PIP_INDEX_URL"})


def test_no_password_is_written_down(services: dict[str, Service]) -> None:
    for name, service in services.items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|SECRET|KEY|TOKEN", variable):
                # A name without a value gets the shell's value, if the shell has one.
                is_file = str(value).startswith(("/secrets", "/run/secrets"))
                assert is_file or not value, f"{name}: {variable}"
        words = [*(service.get("command") or []), *(service.get("entrypoint") or [])]
        assert not [word for word in words if re.search(r"pass|key=|secret=", word)], name


def test_each_server_reads_its_password_from_the_volume(services: dict[str, Service]) -> None:
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"].startswith("/secrets/")
    assert services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"].startswith(
        "/secrets/"
    )
    assert "/secrets/valkey/valkey.conf" in services["valkey"]["command"]
    assert "-s3.config=/secrets/s3/identities.json" in services["s3"]["command"]


def test_the_servers_cannot_reach_out_and_only_ours_reach_them(folder: Path) -> None:
    done = compose(folder, "config", "--format", "json")
    networks = json.loads(done.stdout)["networks"]
    assert networks["inside"]["internal"]
    for name, service in resolved(folder).items():
        inside = "inside" in service.get("networks", {})
        assert inside == (name in {"postgres", "valkey", "s3"} | (OURS - {"models"})), name


def test_servers_of_ones_own_can_be_reached(folder: Path) -> None:
    (folder / ".env").write_text(
        "STILLREEL_DATABASE_URL=postgresql+psycopg://db.example/stillreel\n"
        "STILLREEL_SECRETS_DIR=\nSTILLREEL_CLOSE_INSIDE=false\n"
    )
    done = compose(folder, "--profile", "*", "config", "--format", "json")
    found = json.loads(done.stdout)
    assert not found["networks"]["inside"].get("internal", False)
    for name in OURS:
        environment = found["services"][name]["environment"]
        assert "db.example" in environment["STILLREEL_DATABASE_URL"], name
        assert environment[SECRETS_DIR_VARIABLE] == "", name


def test_the_store_does_not_report_home(services: dict[str, Service]) -> None:
    assert "-master.telemetry=false" in services["s3"]["command"]


def test_the_dashboard_and_the_alerts_show_figures_that_exist() -> None:
    shown = (ROOT / "deploy" / "grafana" / "dashboards" / "stillreel.json").read_text()
    json.loads(shown)
    shown += (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    ending = re.compile(r"_(total|bucket|sum|count)$")
    asked = {ending.sub("", name) for name in re.findall(r"stillreel_[a-z_]+", shown)}
    source = "".join(path.read_text() for path in (ROOT / "api").rglob("*.py"))
    measured = set(re.findall(r'"(stillreel_[a-z_]+)"', source))
    assert len(asked) >= 8
    assert asked <= measured


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    assert found, text
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _mount(service: Service, target: str) -> Mapping[str, Any]:
    return next(mount for mount in service["volumes"] if mount["target"] == target)


def _needed(services: dict[str, Service], name: str) -> set[str]:
    """Return all services that must run before a service, directly or not."""
    direct = set(services[name].get("depends_on", {}))
    return direct.union(*(_needed(services, other) for other in direct))


def test_every_service_may_open_many_files(services: dict[str, Service]) -> None:
    limits = {name: service["ulimits"]["nofile"] for name, service in services.items()}
    assert limits == {name: {"soft": 65536, "hard": 65536} for name in services}


@pytest.mark.parametrize("name", ["s3", "prometheus", "grafana"])
def test_servers_of_others_hear_of_no_proxy(services: dict[str, Service], name: str) -> None:
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    told = services[name]["environment"]
    assert {each: told[each] for each in told if each.lower() in proxies} == {
        **dict.fromkeys(proxies, ""),
        **dict.fromkeys({each.upper() for each in proxies}, ""),
    }
