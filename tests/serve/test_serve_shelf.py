"""Answers in memory: how many, how large, how long."""

from __future__ import annotations

import pytest

from medseg.serve.guard import Refused
from medseg.serve.shelf import Answer, Frame, Shelf


def answer(size: int = 10) -> Answer:
    return Answer({}, (Frame(bytes(size - 4), b"m", (b"p", b"q")),), {"mask.dcm": b"d"})


def test_an_answer_knows_its_size():
    assert answer(10).bytes == 10


def test_numbers_are_long_and_differ():
    shelf = Shelf()
    numbers = {shelf.put(answer()) for _ in range(8)}
    assert len(numbers) == 8
    # 128 bits in base 64
    assert {len(number) for number in numbers} == {22}


def test_the_answer_that_was_not_asked_for_longest_gives_way():
    shelf = Shelf(most=2)
    first, second = shelf.put(answer()), shelf.put(answer())
    shelf.get(first)
    third = shelf.put(answer())
    assert shelf.get(first)
    assert shelf.get(third)
    with pytest.raises(Refused, match="no longer kept; send the file again") as error:
        shelf.get(second)
    assert error.value.status == 404


def test_large_answers_give_way_but_the_newest():
    shelf = Shelf(most_bytes=100)
    first, second = shelf.put(answer(50)), shelf.put(answer(50))
    assert len(shelf) == 2
    third = shelf.put(answer(500))
    assert len(shelf) == 1
    assert shelf.get(third).bytes == 500
    for number in (first, second):
        with pytest.raises(Refused):
            shelf.get(number)


def test_answers_are_forgotten_in_time_or_at_once():
    now = 0.0
    shelf = Shelf(seconds=60, clock=lambda: now)
    first, second = shelf.put(answer()), shelf.put(answer())
    now = 50.0
    shelf.get(first)
    now = 61.0
    shelf.sweep()
    assert len(shelf) == 1
    shelf.get(first)
    shelf.remove(first)
    shelf.remove("unknown")
    assert len(shelf) == 0
    with pytest.raises(Refused):
        shelf.get(second)
