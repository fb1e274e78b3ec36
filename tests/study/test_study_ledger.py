from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import MedsegError
from medseg.study import ledger as module
from medseg.study.entry import Claim, Entry, Row
from medseg.study.ledger import Ledger
from medseg.study.process import Process, started, this_process

ELSEWHERE = Process("far", "another machine", 7, 1)
KILLED = "its worker died (signal 9)"


def states(ledger: Ledger) -> dict[str, str]:
    return {row.key: row.state for row in ledger.rows(superseded=True)}


def test_a_fresh_plan_waits_in_order(ledger, plan):
    rows = ledger.rows()
    assert [(r.key, r.position, r.state, r.name) for r in rows] == [
        (f"k{i}", i, "waiting", f"discs__unet__dice/{i}") for i in range(3)
    ]
    assert ledger.cells() == {f"k{i}": entry.cell for i, entry in enumerate(plan(3))}


def test_runs_are_claimed_in_order_and_once(ledger):
    claims = [ledger.claim() for _ in range(4)]
    assert [claim and claim.key for claim in claims] == ["k0", "k1", "k2", None]
    assert ledger.rows()[0].process == this_process()
    assert ledger.counts() == {"waiting": 0, "running": 3, "done": 0, "failed": 0, "superseded": 0}


def test_one_run_is_claimed_by_its_key_and_by_the_version_of_its_code(ledger):
    assert ledger.claim(key="k1").key == "k1"
    assert ledger.claim(key="k1") is None
    assert ledger.claim(code="another") is None
    assert ledger.claim(code="c0").key == "k0"


def test_many_claimants_never_get_the_same_run(tmp_path, plan):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.enter(plan(40))

    def take(_: int) -> list[str]:
        mine = []
        while claim := Ledger(ledger.path).claim():
            mine.append(claim.key)
        return mine

    with ThreadPoolExecutor(8) as pool:
        taken = [key for keys in pool.map(take, range(8)) for key in keys]
    assert sorted(taken) == sorted(f"k{i}" for i in range(40))


def test_processes_that_start_at_once_make_one_ledger_and_share_its_runs(tmp_path):
    script = """
import sys
from pathlib import Path
from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings
from medseg.study.entry import Entry
from medseg.study.ledger import Ledger
from medseg.study.spec import Cell
ledger = Ledger(Path(sys.argv[1]))
choice = Choice("discs", "unet", "dice")
ledger.enter([Entry(f"k{i}", "", "", Cell(choice, i, Settings()), "holdout") for i in range(12)])
while claim := ledger.claim():
    print(claim.key)
    assert ledger.finish(claim)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "ledger.db")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=240)[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sorted(key for keys in said for key in keys) == sorted(f"k{i}" for i in range(12))
    assert {a.outcome for a in Ledger(tmp_path / "ledger.db").attempts()} == {"done"}


def test_a_finished_run_is_done_and_says_by_whom_and_how_long(ledger):
    claim = ledger.claim()
    assert ledger.finish(claim)
    row = ledger.rows()[0]
    assert (row.state, row.attempts, row.owner) == ("done", 1, this_process().name)
    assert row.seconds == pytest.approx(row.ended - row.began)
    assert [(a.key, a.outcome) for a in ledger.attempts()] == [("k0", "done")]


def test_a_failed_run_waits_behind_the_others_until_its_retries_are_used_up(ledger):
    order = []
    for _ in range(5):
        claim = ledger.claim()
        order.append(claim.key)
        if claim.key == "k0":
            ledger.fail(claim, "the loss became nan", retries=2)
        else:
            ledger.finish(claim)
    assert order == ["k0", "k1", "k2", "k0", "k0"]
    assert ledger.claim() is None
    row = ledger.rows()[0]
    assert (row.state, row.attempts, row.failures, row.error) == ("failed", 3, 3, "the loss became nan")


@pytest.mark.parametrize(("retries", "states_after"), [(0, ["failed"]), (1, ["waiting", "failed"])])
def test_retries_are_counted_beyond_the_first_attempt(ledger, retries, states_after):
    seen = [ledger.fail(ledger.claim(key="k0"), "no", retries) for _ in states_after]
    assert seen == states_after


def test_failed_runs_get_their_attempts_back_only_when_asked(ledger, plan):
    ledger.fail(ledger.claim(), "no", retries=0)
    ledger.enter(plan(3))
    assert states(ledger)["k0"] == "failed"
    assert ledger.retry_failed() == 1
    assert ledger.fail(ledger.claim(key="k0"), "no", retries=1) == "waiting"


def test_a_released_run_goes_on_elsewhere_and_no_attempt_is_used(ledger):
    assert ledger.release(ledger.claim())
    row = ledger.rows()[0]
    assert (row.state, row.failures, row.attempts) == ("waiting", 0, 1)
    assert ledger.claim().key == "k0"
    assert [a.outcome for a in ledger.attempts("k0")] == ["released", ""]


@pytest.mark.parametrize("act", ["beat", "finish", "release"])
def test_a_lost_claim_changes_nothing_and_says_so(ledger, act):
    lost = ledger.claim()
    ledger.release(lost)
    holder = ledger.claim()
    before = ledger.rows()[0]
    assert getattr(ledger, act)(lost) is False
    assert ledger.fail(lost, "no") is None
    assert ledger.rows()[0] == before
    assert ledger.beat(holder) is True
    assert getattr(ledger, act)(replace(holder, token="forged")) is False


def test_the_run_of_a_process_that_is_gone_is_taken_back_at_once(ledger):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(this_process(), pid=child.pid, started=started(child.pid))
    claim = ledger.claim(owner)
    assert ledger.take_back() == []
    child.kill()
    child.wait()
    assert [row.key for row in ledger.take_back()] == ["k0"]
    assert ledger.finish(claim) is False
    assert [a.outcome for a in ledger.attempts()] == ["died"]
    assert states(ledger)["k0"] == "waiting"


def test_a_number_that_another_process_has_now_does_not_count_as_alive(ledger):
    ledger.claim(replace(this_process(), started=this_process().started - 1))
    assert [row.key for row in ledger.take_back()] == ["k0"]


def test_workers_that_their_own_command_looks_after_are_spared(ledger):
    owner = replace(this_process(), started=1)
    ledger.claim(owner)
    assert ledger.take_back(spare={owner}) == []
    assert [row.key for row in ledger.take_back(spare={this_process()})] == ["k0"]


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = replace(this_process(), pid=child.pid, started=started(child.pid))
    until = time.monotonic() + 60
    while not process.gone() and time.monotonic() < until:
        time.sleep(0.01)
    assert process.gone()
    child.wait()


def test_a_process_elsewhere_is_not_judged_by_its_number_here():
    assert replace(ELSEWHERE, pid=os.getpid()).gone() is None
    assert this_process().gone() is False


def test_a_claim_elsewhere_is_taken_back_after_a_lease_without_a_sign_of_life(ledger, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    claim = ledger.claim(ELSEWHERE)
    assert ledger.take_back() == []
    assert ledger.undecided()
    clock[0] += 59
    assert ledger.beat(claim)
    assert ledger.take_back() == []
    assert not ledger.undecided()
    clock[0] += 59.9
    assert ledger.take_back() == []
    clock[0] += 0.2
    assert [row.key for row in ledger.take_back()] == ["k0"]
    assert ledger.beat(claim) is False


def test_a_clock_that_is_wrong_elsewhere_kills_nobody(ledger, monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: 0.0)  # 1970 there
    ledger.claim(ELSEWHERE)
    assert ledger.take_back() == []


def die(ledger: Ledger, reached: int, retries: int = 2, how: str | None = "signal 9") -> str:
    """Let the first run be claimed and its worker die."""
    owner = replace(this_process(), started=1)
    ledger.claim(owner, key="k0")
    ledger.take_back(lambda row: reached, {owner: how} if how else {}, retries)
    return states(ledger)["k0"]


def test_a_run_that_kills_its_worker_in_the_first_epoch_fails_after_its_retries(ledger):
    assert [die(ledger, 0) for _ in range(3)] == ["waiting", "waiting", "failed"]
    row = ledger.rows()[0]
    assert row.error == f"{KILLED} 3 times in epoch 1"
    assert [a.reason for a in ledger.attempts()] == [KILLED, f"{KILLED} 2 times in epoch 1", row.error]


def test_a_kill_from_outside_is_forgiven_twice_even_without_retries(ledger):
    assert [die(ledger, 0, retries=0) for _ in range(3)] == ["waiting", "waiting", "failed"]


def test_a_run_that_gets_further_each_time_is_taken_up_for_ever(ledger):
    assert {die(ledger, reached) for reached in range(1, 30)} == {"waiting"}
    assert ledger.rows()[0].failures == 0


def test_deaths_in_one_later_epoch_are_counted_from_the_first_that_got_no_further(ledger):
    assert [die(ledger, 5) for _ in range(4)] == ["waiting"] * 3 + ["failed"]
    assert ledger.rows()[0].error == f"{KILLED} 4 times in epoch 6"


def test_going_back_to_an_older_checkpoint_is_no_progress(ledger):
    assert [die(ledger, reached) for reached in (5, 3, 4, 5)] == ["waiting"] * 3 + ["failed"]


def test_machines_that_are_switched_off_use_up_no_attempt_until_it_is_many(ledger):
    seen = [die(ledger, 0, how=None) for _ in range(module.UNSEEN)]
    assert seen == ["waiting"] * (module.UNSEEN - 1) + ["failed"]


def test_the_time_of_all_attempts_is_added_up(ledger, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: clock[0])
    for seconds, end in ((5, ledger.release), (7, ledger.finish)):
        claim = ledger.claim(key="k0")
        clock[0] += seconds
        end(claim)
    assert ledger.rows()[0].seconds == 12


def test_of_a_dead_worker_counts_the_time_until_its_last_sign_of_life(ledger, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: clock[0])
    owner = replace(this_process(), started=1)
    claim = ledger.claim(owner)
    clock[0] += 10
    ledger.beat(claim)
    clock[0] += 3600
    ledger.take_back()
    assert ledger.rows()[0].seconds == 10


def test_runs_that_leave_the_plan_are_superseded_and_come_back_as_they_were(ledger, plan):
    ledger.finish(ledger.claim())
    counts = ledger.enter(plan(3)[1:] + plan(1, prefix="n"), lambda entry: entry.key == "k0")
    assert counts == {"new": 1, "superseded": 1, "again": 0}
    assert states(ledger) == {"k1": "waiting", "k2": "waiting", "n0": "waiting", "k0": "superseded"}
    assert [row.key for row in ledger.rows()] == ["k1", "k2", "n0"]
    ledger.enter(plan(3), lambda entry: entry.key == "k0")
    assert [(row.key, row.state) for row in ledger.rows()] == [
        ("k0", "done"),
        ("k1", "waiting"),
        ("k2", "waiting"),
    ]


def test_a_superseded_run_without_results_is_to_do_again(ledger, plan):
    ledger.finish(ledger.claim())
    ledger.enter(plan(3)[1:])
    ledger.enter(plan(3), lambda entry: False)
    assert states(ledger)["k0"] == "waiting"


def test_a_run_that_ends_while_a_plan_is_entered_again_stays_done(ledger, plan):
    claim = ledger.claim()

    def look(entry: Entry) -> bool:
        raise AssertionError("nothing was done when results were looked for")

    rows = ledger.rows

    def rows_and_then_the_end(**options: bool) -> list[Row]:
        found = rows(**options)
        ledger.finish(claim)
        return found

    ledger.rows = rows_and_then_the_end
    ledger.enter(plan(3), look)
    assert states(Ledger(ledger.path))["k0"] == "done"


def test_a_done_run_whose_results_are_gone_waits_again(ledger, plan):
    ledger.finish(ledger.claim())
    assert ledger.enter(plan(3), lambda entry: entry.key == "k0")["again"] == 0
    assert ledger.enter(plan(3), lambda entry: False)["again"] == 1
    assert states(ledger)["k0"] == "waiting"


def test_entering_the_same_plan_leaves_running_runs_alone(ledger, plan):
    claim = ledger.claim()
    ledger.enter(plan(3))
    assert ledger.finish(claim)


def test_a_plan_is_not_changed_under_a_running_run(ledger, plan):
    ledger.claim()
    with pytest.raises(
        MedsegError, match=r"1 runs of the study as it was before go on, such as discs__unet__dice/0"
    ):
        ledger.enter(plan(3)[1:])
    assert len(ledger.rows()) == 3


def test_rows_of_one_state(ledger):
    ledger.finish(ledger.claim())
    assert [row.key for row in ledger.rows(state="done")] == ["k0"]
    assert [row.key for row in ledger.rows(state="waiting")] == ["k1", "k2"]


def test_reading_makes_no_file(tmp_path):
    ledger = Ledger(tmp_path / "none" / "ledger.db")
    assert (ledger.rows(), ledger.attempts(), ledger.cells(), ledger.counts()["waiting"]) == ([], [], {}, 0)
    assert not ledger.path.parent.exists()


def test_a_file_that_is_no_ledger_is_named(tmp_path):
    (tmp_path / "ledger.db").write_text("not a database, and long enough to be taken for one\n" * 40)
    with pytest.raises(
        MedsegError, match=r"ledger\.db: the ledger cannot be used \(file is not a database\)"
    ):
        Ledger(tmp_path / "ledger.db").rows()


def test_a_ledger_of_another_version_is_not_touched(ledger):
    with sqlite3.connect(ledger.path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(MedsegError, match="format 99, not 1"):
        ledger.claim()


def test_an_empty_file_left_by_a_kill_is_filled(tmp_path, plan):
    (tmp_path / "ledger.db").touch()
    assert Ledger(tmp_path / "ledger.db").rows() == []
    Ledger(tmp_path / "ledger.db").enter(plan(2))
    assert len(Ledger(tmp_path / "ledger.db").rows()) == 2


MOVES = st.lists(
    st.tuples(st.sampled_from(["claim", "finish", "fail", "release", "beat", "kill"]), st.integers(0, 9)),
    max_size=40,
)


@given(moves=MOVES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_every_run_has_one_holder_and_is_done_once(tmp_path_factory, plan, moves):
    """Against a model of the ledger that is a dictionary: token held for each run."""
    ledger = Ledger(Path(tmp_path_factory.mktemp("model")) / "ledger.db")
    ledger.enter(plan(3))
    claims: list[Claim] = []
    held: dict[str, Claim] = {}
    done: set[str] = set()
    dead = replace(this_process(), started=1)
    for move, number in moves:
        claim = claims[number % len(claims)] if claims else None
        if move == "claim":
            got = ledger.claim(dead)
            assert (got is None) == (len(held) + len(done) == 3)
            if got:
                assert got.key not in held
                assert got.key not in done
                claims.append(got)
                held[got.key] = got
        elif move == "kill":
            assert {row.key for row in ledger.take_back(lambda row: len(claims))} == set(held)
            held.clear()
        elif claim:
            mine = held.get(claim.key) == claim
            told = (
                ledger.fail(claim, "no", 99) == "waiting" if move == "fail" else getattr(ledger, move)(claim)
            )
            assert told == mine
            if mine and move != "beat":
                del held[claim.key]
                done |= {claim.key} if move == "finish" else set()
    outcomes = Counter(a.key for a in ledger.attempts() if a.outcome == "done")
    assert outcomes == Counter(done)
    assert {row.key for row in ledger.rows(state="running")} == set(held)
