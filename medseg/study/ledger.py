"""The ledger of a study: one SQLite file that says of every run what became of it, and who has it now.

A claim is atomic and has a token. Who lost a claim, because it was taken for dead, changes nothing any more.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.study.database import ROWS, as_row, cell_of, owner_of, transaction
from medseg.study.entry import STATES, Attempt, Claim, Entry, Row
from medseg.study.process import Process, this_process
from medseg.study.spec import Cell

__all__ = ["BEAT", "LEASE", "STATES", "Attempt", "Claim", "Entry", "Ledger", "Row"]

#: seconds without a sign of life after which a claim on another machine is taken back
LEASE = 60.0
#: seconds between two signs of life
BEAT = 10.0
#: deaths of workers in one epoch that are forgiven at least: kills from outside are not the run's fault
FORGIVEN = 2
#: so many that nobody saw: a machine that is switched off says nothing about its run
UNSEEN = 10


class Ledger:
    """The ledger in a file; made when missing.

    Every method is one transaction on a connection of its own, so that threads and processes may share the file.

    Args:
        path: the file. On a shared folder it needs working POSIX locks.
        lease: seconds without a sign of life after which a claim on another machine is taken back.
    """

    def __init__(self, path: Path, lease: float = LEASE) -> None:
        self.path = path
        self.lease = lease
        # what this process saw of claims elsewhere: how often they gave a sign of life, and when that changed
        self._seen: dict[str, tuple[int, float]] = {}
        self._alive: set[str] = set()

    def enter(
        self, entries: Iterable[Entry], has_results: Callable[[Entry], bool] | None = None
    ) -> dict[str, int]:
        """Make the plan what is given: new runs wait, those no longer in it are superseded, the others stay.

        Args:
            entries: every run of the study, in order.
            has_results: whether the results of a run are on disk; what was done without waits again, and a run
                that comes back into the plan is done with them. If not given, what is done stays so.

        Returns:
            How many runs are ``new``, ``superseded`` and ``again`` (done once, their results gone).

        Raises:
            MedsegError: a run that would be superseded is running.
        """
        planned = list(entries)
        keys = {entry.key for entry in planned}
        # looked up before the plan changes, so that a run that ends meanwhile is not taken for one without results
        before = {row.key: row.state for row in self.rows(superseded=True)}
        over = [entry for entry in planned if before.get(entry.key) in ("done", "superseded")]
        there = {entry.key for entry in over if has_results and has_results(entry)}
        gone = {entry.key for entry in over if has_results} - there
        with transaction(self.path) as db:
            states = {row["key"]: row["state"] for row in db.execute("SELECT key, state FROM runs")}
            dropped = [key for key in states if key not in keys and states[key] != "superseded"]
            self._refuse_running(db, dropped)
            db.executemany(
                "UPDATE runs SET state = 'superseded', position = -1 WHERE key = ?", [(k,) for k in dropped]
            )
            for position, entry in enumerate(planned):
                self._enter_one(
                    db, position, entry, states.get(entry.key), entry.key in there, entry.key in gone
                )
        again = [key for key in gone if states.get(key) == "done"]
        return {"new": len(keys - states.keys()), "superseded": len(dropped), "again": len(again)}

    def _refuse_running(self, db: sqlite3.Connection, keys: list[str]) -> None:
        owners = {r["key"]: r for r in db.execute("SELECT key, name, host FROM runs WHERE state = 'running'")}
        held = [owners[key] for key in keys if key in owners]
        if held:
            raise MedsegError(
                f"{self.path.parent}: {len(held)} runs of the study as it was before go on, such as {held[0]['name']}"
                f" on {held[0]['host']}; stop them or let them end, then start the changed study"
            )

    @staticmethod
    def _enter_one(
        db: sqlite3.Connection, position: int, entry: Entry, state: str | None, there: bool, gone: bool
    ) -> None:
        if state is None:
            cell = entry.cell
            facts = cell.choice.facts()
            values = {"key": entry.key, "base": entry.base, "code": entry.code, "position": position}
            values |= {"name": cell.name, **facts, "split": entry.split, "repeat": cell.repeat}
            values["cell"] = json.dumps({"choice": asdict(cell.choice), "settings": asdict(cell.settings)})
            marks = ", ".join(f":{name}" for name in values)
            db.execute(f"INSERT INTO runs ({', '.join(values)}) VALUES ({marks})", values)
            return
        if state == "superseded" or (state == "done" and gone):
            fresh = "failures = 0, deaths = 0, unseen = 0, reached = 0, error = ''"
            db.execute(
                f"UPDATE runs SET state = ?, {fresh} WHERE key = ?",
                ("done" if there else "waiting", entry.key),
            )
        db.execute("UPDATE runs SET position = ? WHERE key = ?", (position, entry.key))

    def claim(
        self, owner: Process | None = None, key: str | None = None, code: str | None = None
    ) -> Claim | None:
        """Take the next waiting run: those that failed before come last.

        Args:
            owner: who claims; the calling process if not given.
            key: this run and no other.
            code: only a run that is for this version of the code.

        Returns:
            The claim; None when there is nothing to claim.
        """
        owner, token, now = owner or this_process(), secrets.token_hex(8), time.time()
        chosen = ("AND key = :key " if key else "") + ("AND code = :code" if code else "")
        with transaction(self.path) as db:
            row = db.execute(
                f"SELECT * FROM runs WHERE state = 'waiting' {chosen} ORDER BY failures, position LIMIT 1",
                {"key": key, "code": code},
            ).fetchone()
            if row is None:
                return None
            values = {"key": row["key"], "token": token, "now": now, **asdict(owner)}
            db.execute(
                "UPDATE runs SET state = 'running', token = :token, host = :host, space = :space, pid = :pid,"
                " started = :started, beats = 0, beat = :now, began = :now, ended = NULL WHERE key = :key",
                values,
            )
            db.execute(
                "INSERT INTO attempts (key, token, host, pid, began) VALUES (:key, :token, :host, :pid, :now)",
                values,
            )
        return Claim(row["key"], token, cell_of(row), row["split"], row["code"])

    def beat(self, claim: Claim) -> bool:
        """Give a sign of life; False if the claim was lost."""
        with transaction(self.path) as db:
            done = db.execute(
                "UPDATE runs SET beats = beats + 1, beat = ? WHERE key = ? AND token = ? AND state = 'running'",
                (time.time(), claim.key, claim.token),
            )
            return done.rowcount == 1

    def finish(self, claim: Claim) -> bool:
        """Say that a run is done; False, and nothing changed, if the claim was lost."""
        with transaction(self.path) as db:
            row = self._held(db, claim)
            if row is not None:
                self._close(db, row, "done", "done", failures=0, error="")
            return row is not None

    def fail(self, claim: Claim, reason: str, retries: int = 0) -> str | None:
        """Say that a run failed; it waits again until ``retries`` are used up.

        Returns:
            The run's state, ``waiting`` or ``failed``; None, and nothing changed, if the claim was lost.
        """
        with transaction(self.path) as db:
            row = self._held(db, claim)
            if row is None:
                return None
            failures = row["failures"] + 1
            state = "failed" if failures > retries else "waiting"
            self._close(db, row, state, "failed", reason, failures=failures, error=reason)
            return state

    def release(self, claim: Claim) -> bool:
        """Give a run back unfinished, for anyone to go on with; False, and nothing changed, if the claim was lost."""
        with transaction(self.path) as db:
            row = self._held(db, claim)
            if row is not None:
                self._close(db, row, "waiting", "released")
            return row is not None

    @staticmethod
    def _held(db: sqlite3.Connection, claim: Claim) -> sqlite3.Row | None:
        found: sqlite3.Row | None = db.execute(
            "SELECT * FROM runs WHERE key = ? AND token = ? AND state = 'running'", (claim.key, claim.token)
        ).fetchone()
        return found

    @staticmethod
    def _close(
        db: sqlite3.Connection,
        row: sqlite3.Row,
        state: str,
        outcome: str,
        reason: str = "",
        ended: float | None = None,
        epochs: int | None = None,
        **changes: Any,
    ) -> None:
        """End an attempt, and the claim with it."""
        ended = time.time() if ended is None else ended
        values = {"state": state, "ended": ended, "seconds": row["seconds"] + max(0.0, ended - row["began"])}
        values |= {"token": None, **changes}
        sets = ", ".join(f"{name} = :{name}" for name in values)
        db.execute(f"UPDATE runs SET {sets} WHERE key = :key", {**values, "key": row["key"]})
        db.execute(
            "UPDATE attempts SET ended = ?, outcome = ?, reason = ?, epochs = ? WHERE token = ?",
            (ended, outcome, reason, epochs, row["token"]),
        )

    def take_back(
        self,
        epochs: Callable[[Row], int] | None = None,
        deaths: Mapping[Process, str] | None = None,
        retries: int = 0,
        spare: Collection[Process] = (),
    ) -> list[Row]:
        """Let go of the claims of dead workers, so that others go on with their runs.

        A worker of this machine is dead when its process is gone, one elsewhere when it gave no sign of life for
        a lease, by the clock of who looks on; so the clocks of machines need not agree. A death counts against the
        run where it got no further than at the death before; see ``_died``.

        Args:
            epochs: how far a run had got; 0 for all if not given.
            deaths: how workers died, where somebody saw it, such as ``signal 9``.
            retries: how many deaths that somebody saw are forgiven.
            spare: workers whose end the caller will see by itself, and then know how they died.

        Returns:
            The runs that were taken back, as they were.
        """
        with transaction(self.path, write=False) as db:
            suspects = [row for row in db.execute(f"{ROWS} WHERE state = 'running'") if self._dead(row)]
        taken = []
        for suspect in suspects:
            run = as_row(suspect)
            if run.process in spare:
                continue
            reached = epochs(run) if epochs else 0
            how = (deaths or {}).get(run.process) if run.process else None
            with transaction(self.path) as db:
                row = db.execute(
                    "SELECT * FROM runs WHERE key = ? AND token = ? AND beats = ?",
                    (run.key, suspect["token"], suspect["beats"]),
                ).fetchone()
                if row is not None:
                    self._died(db, row, reached, how, retries)
                    taken.append(run)
        return taken

    def undecided(self) -> bool:
        """Whether some claim may come back to be taken: one of this machine, or one elsewhere without a sign of life.

        Signs of life are those that ``take_back`` of this object saw.
        """
        with transaction(self.path, write=False) as db:
            held = db.execute("SELECT * FROM runs WHERE state = 'running'").fetchall()
        return any(owner_of(row).gone() is not None or row["token"] not in self._alive for row in held)

    def _dead(self, row: sqlite3.Row) -> bool:
        gone = owner_of(row).gone()
        if gone is not None:
            return gone
        now, token = time.monotonic(), row["token"]
        beats, since = self._seen.setdefault(token, (row["beats"], now))
        if beats != row["beats"]:
            self._seen[token] = (row["beats"], now)
            self._alive.add(token)
            return False
        if now - since >= self.lease:
            self._alive.discard(token)
            return True
        return False

    def _died(
        self, db: sqlite3.Connection, row: sqlite3.Row, reached: int, how: str | None, retries: int
    ) -> None:
        """End the attempt of a dead worker.

        A run that gets further between two deaths is taken up for ever, as it is on machines that are taken away
        now and then. One whose workers die in the same epoch again and again fails, after ``retries`` deaths that
        somebody saw, or ``UNSEEN`` that nobody did.
        """
        further, here = reached > row["reached"], max(reached, row["reached"])
        deaths = (0 if further else row["deaths"]) + (how is not None)
        unseen = (0 if further else row["unseen"]) + (how is None)
        reason = f"its worker died{f' ({how})' if how else ''}"
        reason += f" {deaths + unseen} times in epoch {here + 1}" if deaths + unseen > 1 else ""
        # the first death in an epoch that was reached by training is none of its attempts
        failed = deaths - (here > 0) > max(retries, FORGIVEN) or unseen >= UNSEEN
        changes: dict[str, Any] = {"deaths": deaths, "unseen": unseen, "reached": here}
        if failed:
            changes |= {"failures": retries + 1, "error": reason}
        ended = row["beat"] if how is None else None
        self._close(db, row, "failed" if failed else "waiting", "died", reason, ended, reached, **changes)

    def retry_failed(self) -> int:
        """Give failed runs all their attempts back; returns how many there were."""
        with transaction(self.path) as db:
            return db.execute(
                "UPDATE runs SET state = 'waiting', failures = 0, deaths = 0, unseen = 0 WHERE state = 'failed'"
            ).rowcount

    def rows(self, *, superseded: bool = False, state: str | None = None) -> list[Row]:
        """The runs of the plan in order.

        Args:
            superseded: those that are no longer in the plan too, at the end.
            state: only those in this state.
        """
        if not self.path.is_file():
            return []
        where = "WHERE state = :state" if state else "" if superseded else "WHERE state != 'superseded'"
        with transaction(self.path, write=False) as db:
            found = db.execute(f"{ROWS} {where} ORDER BY position < 0, position", {"state": state}).fetchall()
        return [as_row(row) for row in found]

    def counts(self) -> dict[str, int]:
        """How many runs are in each of the ``STATES``."""
        counts = dict.fromkeys(STATES, 0)
        if self.path.is_file():
            with transaction(self.path, write=False) as db:
                counts |= dict(db.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall())
        return counts

    def attempts(self, key: str | None = None) -> list[Attempt]:
        """All attempts, or those at one run, in the order in which they began."""
        if not self.path.is_file():
            return []
        where = "WHERE key = ?" if key else ""
        with transaction(self.path, write=False) as db:
            found = db.execute(
                f"SELECT * FROM attempts {where} ORDER BY id", (key,) if key else ()
            ).fetchall()
        return [
            Attempt(
                r["key"],
                f"{r['host']}-{r['pid']}",
                *(r[n] for n in ("began", "ended", "outcome", "reason", "epochs")),
            )
            for r in found
        ]

    def cells(self) -> dict[str, Cell]:
        """The cell of every run by its key."""
        if not self.path.is_file():
            return {}
        with transaction(self.path, write=False) as db:
            return {row["key"]: cell_of(row) for row in db.execute("SELECT key, cell, repeat FROM runs")}
