"""A step is reported once the device has finished it; few steps are launched ahead of that."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from shared.errors import LeaseLost
from worker.engines.diffusion.in_flight import IN_FLIGHT, InFlight


@dataclass
class Device:
    """A device that does its work only when somebody waits for it."""

    launched: int = 0
    finished: int = 0
    most_ahead: int = 0
    told: list[tuple[int, int]] = field(default_factory=list)

    def record_event(self) -> "Mark":
        self.launched += 1
        self.most_ahead = max(self.most_ahead, self.launched - self.finished)
        return Mark(self, self.launched)

    def tell(self, index: int) -> None:
        self.told.append((index, self.finished))


@dataclass
class Mark:
    device: Device
    place: int

    def synchronize(self) -> None:
        self.device.finished = max(self.device.finished, self.place)


def run(device: Device, on_finished: Callable[[int], None], steps: int = 5) -> None:
    in_flight = InFlight(device.record_event, on_finished)
    for index in range(1, steps + 1):
        in_flight.launched(index)
    in_flight.drain()


def test_a_step_is_told_only_after_the_device_finished_it() -> None:
    device = Device()
    run(device, device.tell)

    assert [index for index, _ in device.told] == [1, 2, 3, 4, 5]
    assert all(finished >= index for index, finished in device.told)


def test_at_most_two_steps_are_in_flight() -> None:
    device = Device()
    run(device, device.tell)

    assert device.most_ahead == IN_FLIGHT == 2


def test_a_refusal_stops_the_steps_behind_it() -> None:
    device = Device()

    def lose(index: int) -> None:
        raise LeaseLost("taken")

    with pytest.raises(LeaseLost):
        run(device, lose)
    assert device.launched == IN_FLIGHT
