"""A comparison on disk: what was asked, and each run's evaluations, so that it can go on."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, starmap
from pathlib import Path
from typing import Any

from paretonas import _lines, _lock, journal, runs
from paretonas._atomic import make_folder, replacing
from paretonas.compare import _older
from paretonas.evaluation import Ledger
from paretonas.objectives.default import BESIDE_THE_METRIC
from paretonas.objectives.table_latency import HERE
from paretonas.point import Outcome
from paretonas.space import Architecture

ABOUT = "compare.json"
GROWING = ("budget", "seeds")  # what a comparison can go on with more of
TORCH = "torch"  # the backend of a latency, if an older version has begun the comparison
# The columns of latencies that are measured, by the names that one asks for.
TIMED = {"latency": "latency_ms"} | {f"latency@{here}": f"latency_{here}_ms" for here in HERE}


@dataclass(frozen=True)
class Record:
    """A finished run of one method with one seed: each outcome in order, and its ledger."""

    method: str
    seed: int
    outcomes: tuple[Outcome, ...]
    ledger: Ledger


@dataclass(frozen=True)
class RunJournal:
    """One run's file. It is whole or not there; while the run goes on, a second file grows.

    No line is ever changed. A damaged one is named in a warning and costs itself alone: what it
    held is evaluated again.

    Attributes:
        folder: of the comparison.
        method: which one runs.
        seed: what its random numbers start from.
        maximize: the objectives that are maximized; lines of an older version have them negated.
    """

    folder: Path
    method: str
    seed: int
    maximize: tuple[str, ...] = ()

    def finished(self, budget: int) -> Record | None:
        """The record of the run if it has ended with this budget.

        A run that has lost a line, or has ended with a smaller budget, has only begun.

        Raises:
            ValueError: the file was written by something else.
        """
        found, damaged = _lines.read(self._path, self._parse)
        if damaged and not found:
            raise ValueError(f"{self._path} is no record of a run; move it away to run this anew")
        _lines.warn_of(self._path, damaged)
        evaluated = [pair for pair in found if not isinstance(pair, _Bill)]
        bill = found[-1] if found else None
        if not isinstance(bill, _Bill) or bill.ledger.evaluations != len(evaluated):
            if self._path.exists() and not damaged:
                lacking = f"{self._path} lacks a line; what it held is evaluated again"
                warnings.warn(lacking, _lines.DamagedLineWarning, stacklevel=2)
            return None
        # Records that do not tell their budget are older than comparisons that went on with more.
        if (bill.budget or _budgets(read_about(self.folder))[0]["budget"]) < budget:
            return None
        outcomes = tuple(outcome for outcome, _ in evaluated)
        return Record(self.method, self.seed, outcomes, bill.ledger)

    def begun(self) -> dict[Architecture, tuple[Outcome, float]]:
        """What a run has evaluated so far, and how many seconds each took."""
        ended, _ = _lines.read(self._path, self._parse)  # damaged lines were named by `finished`
        found, damaged = _lines.read(self._draft, self._parse)
        _lines.warn_of(self._draft, damaged)
        return {
            pair[0].architecture: pair for pair in [*ended, *found] if not isinstance(pair, _Bill)
        }

    def add(self, outcome: Outcome, seconds: float, network: object = None) -> Outcome:
        """Append an outcome; it is on disk when this returns. No network is kept."""
        runs.check_there(self.folder)
        draft = self._draft
        make_folder(draft.parent)
        _lines.append(draft, journal.encode(outcome, seconds))
        return outcome

    def finish(
        self,
        outcomes: Sequence[Outcome],
        seconds: Sequence[float],
        ledger: Ledger,
        budget: int,
        spare: Iterable[tuple[Outcome, float]] = (),
    ) -> Record:
        """Write the whole run, with the seconds of each evaluation.

        Args:
            outcomes: in the order of evaluation.
            seconds: of each.
            ledger: of the run.
            budget: that the run has ended with.
            spare: what a run with a smaller budget had evaluated, and this one did not ask for. It
                stays in the second file, for a run with a larger budget.
        """
        runs.check_there(self.folder)
        pairs, rest = [*zip(outcomes, seconds, strict=True)], [*spare]
        if rest:  # before the first file is replaced, which may hold some of it
            _write(self._draft, starmap(journal.encode, [*pairs, *rest]))
        bill = _lines.encode({"ledger": asdict(ledger), "budget": budget})
        _write(self._path, chain(starmap(journal.encode, pairs), [bill]))
        if rest:
            _write(self._draft, starmap(journal.encode, rest))
        else:
            self._draft.unlink(missing_ok=True)
        return Record(self.method, self.seed, tuple(outcomes), ledger)

    def _parse(self, entry: Mapping[str, Any]) -> tuple[Outcome, float] | _Bill:
        """An outcome and its seconds, or the bill."""
        if "ledger" in entry:
            return _Bill.of(entry["ledger"], entry.get("budget"))
        return journal.decode(_older.upright(entry, self.maximize))

    @property
    def _path(self) -> Path:
        return self._file(f"{self.method}-{self.seed}.jsonl")

    @property
    def _draft(self) -> Path:
        return self._file(f"{self.method}-{self.seed}.unfinished.jsonl")

    def _file(self, name: str) -> Path:
        path = self.folder / "runs" / name
        runs.check_inside(self.folder, path)
        return path


def check_begun(folder: Path, identity: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether the folder holds the same comparison; otherwise one can begin there.

    Args:
        folder: of a comparison, or one that is empty or not there.
        identity: plain values by name; a comparison goes on only with equal ones, apart from
            `GROWING`, which may be larger.
        settings: what the user typed, of which an error speaks first.

    Raises:
        ValueError: the folder holds something else, a comparison with other settings, or one with a
            larger budget or more seeds.
    """
    # As they will be read back: lists for tuples.
    identity, settings = json.loads(json.dumps([dict(identity), dict(settings)]))
    if (folder / ABOUT).exists():
        about = _older.renamed(read_about(folder), identity.get("maximize", []))
        runners = _backends(about, identity.get("backends", {}))
        known = {**about["settings"], **({"backends": runners} if runners else {})}
        told = _difference(about["asked"], settings) or _difference(known, identity)
        if told:
            raise ValueError(f"{folder} holds a comparison with other settings: {told}")
        for name in GROWING:
            before, now = about["settings"][name], identity[name]
            if before > now:
                raise ValueError(
                    f"the {name} of the comparison in {folder} can only grow: {before} before, "
                    f"now {now}"
                )
        return True
    runs.check_free(folder, "a comparison")
    return False


@contextmanager
def at_work(
    folder: Path,
    identity: Mapping[str, Any],
    settings: Mapping[str, Any],
    objectives: Iterable[object] = (),
) -> Iterator[None]:
    """Begin a comparison in a folder or go on with it there, while no other process does.

    Args:
        folder: as for `check_begun`.
        identity: likewise.
        settings: likewise.
        objectives: whose latency tables the folder keeps; see `paretonas.runs.keep_tables`.

    Raises:
        ValueError: as `check_begun`, and if the folder is in use, cannot be written, or keeps other
            tables.
    """
    if check_begun(folder, identity, settings) and not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: no permission")
    with _lock.held(folder):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        budget = {**{name: identity[name] for name in GROWING}, "started": now}
        about: dict[str, Any] = {
            "format": runs.FORMAT,
            "settings": dict(identity),
            "asked": dict(settings),
            "folder": str(Path.cwd()),
            "paretonas": runs.version_of("paretonas"),
            "started": now,
            "budgets": [budget],
        }
        begun = check_begun(folder, identity, settings)
        if not begun:  # nor has another process meanwhile
            _write_about(folder, about)
        runs.keep_tables(folder, objectives)
        if begun:
            about = read_about(folder)
            if any(about["settings"][name] != identity[name] for name in GROWING):
                about["budgets"] = [*_budgets(about), budget]
                about["settings"].update({name: identity[name] for name in GROWING})
                asked = {name: settings[name] for name in GROWING if name in settings}
                about["asked"].update(asked)
                _write_about(folder, about)
        yield


def read_about(folder: Path) -> dict[str, Any]:
    """What a comparison was asked for.

    Raises:
        ValueError: this is not the folder of a comparison.
    """
    about = runs.read_about(folder / ABOUT, "a comparison", {"settings", "asked", "folder"})
    for name in GROWING:
        if type(found := about["settings"].get(name)) is not int:
            path = folder / ABOUT
            raise ValueError(f"{path} does not describe a comparison: its {name} is {found!r:.80}")
    return _older.renamed(about, about["asked"].get("maximize", []))


def backends_of(about: Mapping[str, Any]) -> dict[str, str]:
    """What runs the networks of a comparison, by the column of their latency.

    Raises:
        ValueError: the folder tells something else.
    """
    asked, there = about["asked"].get("minimize"), columns_of(about)
    names = asked if isinstance(asked, list) else BESIDE_THE_METRIC
    timed = [column for name, column in TIMED.items() if name in names and column in there]
    return _backends(about, timed)


def columns_of(about: Mapping[str, Any]) -> list[str]:
    """The objectives of a comparison.

    Raises:
        ValueError: the folder tells something else.
    """
    told = about["settings"].get("objectives")
    if not isinstance(told, list) or not all(isinstance(column, str) for column in told):
        raise ValueError(f"{ABOUT} does not describe a comparison: its objectives are {told!r:.80}")
    return told


def _backends(about: Mapping[str, Any], columns: Iterable[str]) -> dict[str, str]:
    """The backends that a folder tells; older versions did not write that of eager torch."""
    told = about["settings"].get("backends", {})
    names = [*told.values()] if isinstance(told, dict) else [told]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{ABOUT} does not describe a comparison: its backends are {told!r:.80}")
    return {**dict.fromkeys(columns, TORCH), **told}


def _write(path: Path, lines: Iterable[bytes]) -> None:
    """Replace a file, whose lines need not be in memory together."""
    with replacing(path) as draft, draft.open("wb") as file:
        file.writelines(lines)


def _write_about(folder: Path, about: Mapping[str, Any]) -> None:
    runs.check_inside(folder, folder / ABOUT)
    runs.check_there(folder)
    with replacing(folder / ABOUT) as draft:
        draft.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _budgets(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every budget of a comparison, the first one first; older ones have had one."""
    first = {name: about["settings"].get(name) for name in GROWING}
    found = about.get("budgets", [{**first, "started": about.get("started")}])
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("budget"), int) for one in found or [None]
    ):
        raise ValueError(f"{ABOUT} does not describe a comparison: its budgets are {found!r:.80}")
    return found


@dataclass(frozen=True)
class _Bill:
    """The last line of a run: its ledger, and the budget if the line tells it."""

    ledger: Ledger
    budget: int | None

    @classmethod
    def of(cls, ledger: Any, budget: Any) -> _Bill:
        """Check what a file tells.

        Raises:
            ValueError: a number is none, or negative.
            TypeError: the ledger is none.
        """
        found = cls(Ledger(**ledger), budget)
        numbers = [*ledger.values(), *([] if budget is None else [budget])]
        if not all(type(number) in (int, float) and 0 <= number < 2**63 for number in numbers):
            raise ValueError(f"a ledger has numbers from 0, got {ledger!s:.200}")
        return found


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name} was {_short(before.get(name))}, now {_short(now.get(name))}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
        and not (
            name in GROWING and isinstance(before.get(name), int) and isinstance(now.get(name), int)
        )
    )


def _short(value: object) -> str:
    text = "not given" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
