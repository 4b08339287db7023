"""The large parts of a model take turns on the card, or all stay there."""

import torch

from worker.engines.diffusion.seats import Seats

CARD = torch.device("meta")  # This device stands for a card, because it is not the host.


class Part(torch.nn.Linear):
    """Remembers the devices that it was sent to, but does not move."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.sent: list[str] = []

    def to(self, device: str | torch.device) -> "Part":
        self.sent.append(torch.device(device).type)
        return self

    def work(self) -> None:
        self(torch.zeros(1))


def test_all_sit_from_the_start_where_there_is_room() -> None:
    text, expert = Part(), Part()
    Seats([text, expert], CARD, one_at_a_time=False)
    text.work()
    expert.work()

    assert (text.sent, expert.sent) == (["meta"], ["meta"])


def test_only_the_part_at_work_sits_where_there_is_not() -> None:
    text, high, low = Part(), Part(), Part()
    Seats([text, high, low], CARD, one_at_a_time=True)
    text.work()
    for part in (high, high, low):
        part.work()

    assert text.sent == ["meta", "cpu", "cpu"]
    assert high.sent == ["cpu", "meta", "cpu"]
    assert low.sent == ["cpu", "cpu", "meta"]


def test_others_leave_before_one_sits_down() -> None:
    order: list[str] = []

    class Told(Part):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def to(self, device: str | torch.device) -> "Part":
            order.append(f"{self.name} {torch.device(device).type}")
            return self

    text, expert = Told("text"), Told("expert")
    Seats([text, expert], CARD, one_at_a_time=True)
    text.work()
    expert.work()

    assert order == ["expert cpu", "text meta", "text cpu", "expert meta"]


def test_all_leave_for_the_decode_and_sit_down_again() -> None:
    text, expert = Part(), Part()
    seats = Seats([text, expert], CARD, one_at_a_time=True)
    expert.work()
    seats.clear()
    expert.work()

    assert expert.sent == ["meta", "cpu", "meta"]


def test_none_leaves_where_there_is_room() -> None:
    part = Part()
    Seats([part], CARD, one_at_a_time=False).clear()

    assert part.sent == ["meta"]
