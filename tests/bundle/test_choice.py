"""A choice and its name say the same."""

from __future__ import annotations

import pytest

from medseg.bundle.choice import Choice
from medseg.errors import MedsegError
from medseg.results import RUN_KEYS

NAMES = {
    "a__m__l": Choice("a", "m", "l"),
    "a_b__m__l_o": Choice("a_b", "m", "l_o"),
    "a__m__l__geometric": Choice("a", "m", "l", "geometric"),
    "a__m__l__vanilla__clahe": Choice("a", "m", "l", preprocess=("clahe",)),
    "a__m__l__all__clahe-median": Choice("a", "m", "l", "all", ("clahe", "median")),
}


@pytest.mark.parametrize(("name", "choice"), NAMES.items())
def test_name_and_choice_are_one(name: str, choice: Choice) -> None:
    assert choice.name == name
    assert Choice.parse(name) == choice


def test_the_plain_augmentation_need_not_be_named() -> None:
    assert Choice.parse("a__m__l__vanilla") == Choice.parse("a__m__l")
    assert Choice.parse("a__m__l__vanilla").name == "a__m__l"


def test_the_order_of_preprocessing_counts() -> None:
    assert Choice.parse("a__m__l__vanilla__x-y") != Choice.parse("a__m__l__vanilla__y-x")


def test_a_protocol_becomes_part_of_the_name() -> None:
    choice = Choice("a", "m", "l", "filter", ("x",))
    assert choice.under("online") is choice
    assert choice.under("split-then-augment").name == "a__m__l__filter-offline__x"
    leaking = choice.under("augment-then-split")
    assert (leaking.name, leaking.facts()["augment"]) == ("a__m__l__filter-leaking__x", "filter-leaking")
    assert Choice.parse(leaking.name) == leaking == leaking.under("augment-then-split")
    with pytest.raises(MedsegError, match="vanilla makes no copies"):
        Choice("a", "m", "l").under("augment-then-split")


@pytest.mark.parametrize(
    "name", ["", "a", "a__m", "a__m__", "__m__l", "a__m__l__v__p__more", "a____m__l", "a_m_l"]
)
def test_other_names_are_refused_with_an_example(name: str) -> None:
    with pytest.raises(MedsegError, match="is no bundle name: write dataset__model__loss, such as") as caught:
        Choice.parse(name)
    assert repr(name) in str(caught.value)


def test_facts_are_columns_of_the_results_table() -> None:
    facts = Choice("a", "m", "l", "all", ("x", "y")).facts()
    assert facts == {"dataset": "a", "model": "m", "loss": "l", "preprocess": "x-y", "augment": "all"}
    assert set(facts) <= set(RUN_KEYS)
