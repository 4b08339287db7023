"""Which cards are found and chosen; a script answers in place of nvidia-smi."""

import os
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import AppError, InvalidRequest
from shared.settings import Settings
from worker.supervisor.gpus import CardsUnknown, Host, LostGpu, find_gpus
from worker.supervisor.places import find_worker_configs, look_around

FIRST = "GPU-11111111-2222-3333-4444-555555555555"
SECOND = "GPU-61111111-2222-3333-4444-555555555555"
INSTANCE = "MIG-91111111-2222-3333-4444-55555555555"
TWO = f"0, {FIRST}, NVIDIA H100, 81559\n1, {SECOND}, NVIDIA H100, 81559"
GONE = "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost. Reboot the system"
NAMES = ("CUDA_VISIBLE_DEVICES", "STILLREEL_GPUS", "NVIDIA_VISIBLE_DEVICES")

Smi = Callable[..., None]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that chooses no card."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STILLREEL_ENGINES", "camera")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Smi:
    """Make nvidia-smi answer with all cards, one card by its --id, or the list of -L."""

    def answer(
        said: str, *, status: int = 0, listed: str = "", ids: dict[str, str] | None = None
    ) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        cases = "".join(f'*--id={name}*) echo "{text}";;\n' for name, text in (ids or {}).items())
        program.write_text(
            f'#!/bin/sh\ncase "$*" in\n-L) echo "{listed}";;\n{cases}'
            f'*--id=*) echo "No devices were found"; exit 6;;\n'
            f'*) echo "{said}"; exit {status};;\nesac\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return answer


def bare(tmp_path: Path) -> Host:
    """Return a host without a driver, and without a card until a test makes one."""
    return Host(driver=tmp_path / "driver", pci=tmp_path / "pci")


def pins(tmp_path: Path) -> list[str]:
    return [
        place.cuda_visible_devices
        for place in find_worker_configs(Settings(), tmp_path, bare(tmp_path))
    ]


def test_every_card_is_pinned_by_what_does_not_shift(smi: Smi, tmp_path: Path) -> None:
    smi(TWO)
    assert pins(tmp_path) == [FIRST, SECOND]
    [first, _] = find_worker_configs(Settings(worker_id="w"), tmp_path, bare(tmp_path))
    assert (first.worker, first.device_name) == ("w-gpu0", "NVIDIA H100")
    assert first.vram_bytes == 81559 * 1024**2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        ("1", [SECOND]),
        ("1,0", [SECOND, FIRST]),
        (SECOND, [SECOND]),
        ("GPU-6111", [SECOND]),
        (f" {SECOND.lower()} , 0", [SECOND, FIRST]),
        ("-1", [""]),
        ("NoDevFiles", [""]),
        ("none", [""]),
        ("0,-1,1", [FIRST]),
        ("all", [FIRST, SECOND]),
    ],
)
def test_cards_are_chosen_as_cuda_takes_them(
    smi: Smi,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    value: str,
    chosen: list[str],
) -> None:
    smi(TWO)
    monkeypatch.setenv(name, value)
    assert pins(tmp_path) == chosen


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("7", "names 7; the cards of this host are: 0 GPU-1111"),
        ("GPU-9", "names GPU-9; the cards"),
        ("MIG-9", "names MIG-9; the cards"),
        ("GPU-", "names GPU-, and several UUIDs begin with it"),
        ("1,GPU-6111", "names the card GPU-6111 twice"),
        ("two", "names two; the cards"),
    ],
)
def test_a_refusal_names_the_variable_that_was_set(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, what: str
) -> None:
    smi(TWO)
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRequest, match=f"^{name} {what}"):
        pins(tmp_path)


def test_our_own_setting_goes_before_cuda_and_cuda_before_the_containers(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    smi(TWO)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "none")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert pins(tmp_path) == [SECOND]
    monkeypatch.setenv("STILLREEL_GPUS", "0")
    assert pins(tmp_path) == [FIRST]


@pytest.mark.parametrize("value", ["", "void", "all", "3,2"])
def test_what_a_container_was_given_counts_from_zero_in_it(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    smi(TWO)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", value)
    assert pins(tmp_path) == [FIRST, SECOND]


def test_an_empty_list_is_no_card_for_cuda_and_the_default_for_us(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    smi(TWO)
    monkeypatch.setenv("STILLREEL_GPUS", "")
    assert pins(tmp_path) == [FIRST, SECOND]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pins(tmp_path) == [""]


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        ("all", [f"{INSTANCE}0", f"{INSTANCE}1", SECOND]),
        ("0", [f"{INSTANCE}0", f"{INSTANCE}1"]),
        ("0.1", [f"{INSTANCE}1"]),
        (f"{INSTANCE}1,1", [f"{INSTANCE}1", SECOND]),
    ],
)
def test_each_mig_instance_has_a_worker_of_its_own(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, chosen: list[str]
) -> None:
    listed = textwrap.dedent(f"""\
        GPU 0: NVIDIA H100 (UUID: {FIRST})
          MIG 1g.10gb     Device  0: (UUID: {INSTANCE}0)
          MIG 2g.20gb     Device  1: (UUID: {INSTANCE}1)
        GPU 1: NVIDIA H100 (UUID: {SECOND})""")
    smi(TWO, listed=listed)
    monkeypatch.setenv("STILLREEL_GPUS", value)
    assert pins(tmp_path) == chosen
    sizes = {gpu.pin: gpu.vram_bytes for gpu in find_gpus(bare(tmp_path)).gpus}
    assert 19 * 1024**3 <= sizes[f"{INSTANCE}1"] < 20 * 1024**3


@pytest.mark.parametrize(
    ("said", "status", "lost"),
    [
        (f"0, {FIRST}, NVIDIA H100, 81559\n{GONE}", 15, "0000:3b:00.0"),
        (f"0, {FIRST}, NVIDIA H100, 81559\n1, {SECOND}, [GPU is lost], [GPU is lost]", 0, "1"),
        (f"0, {FIRST}, NVIDIA H100, 81559\n1, {SECOND}, [Unknown Error], [Unknown Error]", 0, "1"),
        (f"{GONE}\n0, {FIRST}, NVIDIA H100, 81559", 255, "0000:3b:00.0"),
    ],
)
def test_the_good_cards_work_while_a_lost_one_is_told(
    smi: Smi, tmp_path: Path, said: str, status: int, lost: str
) -> None:
    smi(said, status=status)
    hall = look_around(Settings(worker_id="w"), tmp_path, bare(tmp_path))
    assert [place.cuda_visible_devices for place in hall.configs] == [FIRST]
    assert [each.label for each in find_gpus(bare(tmp_path)).lost] == [lost]
    assert len(hall.lost) == 1
    assert hall.lost[0].worker.startswith("w-gpu")


def test_cards_behind_the_lost_one_are_asked_by_themselves(smi: Smi, tmp_path: Path) -> None:
    smi(
        GONE,
        status=15,
        ids={
            "0": f"0, {FIRST}, NVIDIA H100, 81559",
            "1": GONE,
            "2": f"2, {SECOND}, NVIDIA H100, 81559",
        },
    )
    assert pins(tmp_path) == [FIRST, SECOND]


def test_a_list_may_name_the_lost_card_and_not_lose_the_others(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    smi(f"0, {FIRST}, NVIDIA H100, 81559\n{GONE}", status=15)
    monkeypatch.setenv("STILLREEL_GPUS", "0,1")
    assert pins(tmp_path) == [FIRST]
    monkeypatch.setenv("STILLREEL_GPUS", "1")
    with pytest.raises(InvalidRequest, match=r"no card answers that STILLREEL_GPUS asks for"):
        pins(tmp_path)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (GONE, 15),
        ("Failed to initialize NVML: Driver/library version mismatch", 18),
        ("Failed to initialize NVML: Unknown Error", 255),
        ("Segmentation fault", 139),
    ],
)
def test_a_host_that_has_cards_never_becomes_one_without(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, status: int
) -> None:
    smi(said, status=status)
    with pytest.raises(AppError, match="STILLREEL_GPUS=none"):
        pins(tmp_path)
    monkeypatch.setenv("STILLREEL_GPUS", "none")
    assert pins(tmp_path) == [""]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("No devices were found", 6),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9),
    ],
)
def test_what_the_kernel_knows_decides_where_nvidia_smi_sees_nothing(
    smi: Smi, tmp_path: Path, said: str, status: int
) -> None:
    smi(said, status=status)
    assert pins(tmp_path) == [""]
    (tmp_path / "driver" / "0000:3b:00.0").mkdir(parents=True)
    with pytest.raises(CardsUnknown, match=f"status {status}"):
        pins(tmp_path)


def test_an_answer_that_does_not_come_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    host = replace(bare(tmp_path), nvidia_smi_seconds=0.2)
    with pytest.raises(CardsUnknown, match=r"did not answer within 0\.2 s"):
        find_worker_configs(Settings(), tmp_path, host)


def test_a_card_without_a_driver_is_told_and_the_processor_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look_around(Settings(), tmp_path, bare(tmp_path)).warning == ""
    card = tmp_path / "pci" / "0000:01:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030000\n")
    assert (
        "nvidia-smi is not installed" in look_around(Settings(), tmp_path, bare(tmp_path)).warning
    )


def test_a_lost_card_is_called_by_what_is_known_of_it() -> None:
    assert [LostGpu(*it).label for it in (("2", ""), ("", "", "", "0000:3b:00.0"))] == [
        "2",
        "0000:3b:00.0",
    ]
