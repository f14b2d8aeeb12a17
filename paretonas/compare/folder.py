"""A comparison on disk: what was asked, and each run's evaluations, so that it can go on."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paretonas import _lines, _lock, journal, runs
from paretonas._atomic import make_folder, replacing
from paretonas.compare import _older
from paretonas.evaluation import Ledger
from paretonas.point import Outcome
from paretonas.space import Architecture

ABOUT = "compare.json"


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

    def finished(self) -> Record | None:
        """The record of the run if it has ended; one that has lost a line has only begun.

        Raises:
            ValueError: the file was written by something else.
        """
        found, damaged = _lines.read(self._path, self._parse)
        if damaged and not found:
            raise ValueError(f"{self._path} is no record of a run; move it away to run this anew")
        _lines.warn_of(self._path, damaged)
        evaluated = [pair for pair in found if not isinstance(pair, Ledger)]
        ledger = found[-1] if found else None
        if not isinstance(ledger, Ledger) or ledger.evaluations != len(evaluated):
            if self._path.exists() and not damaged:
                lacking = f"{self._path} lacks a line; what it held is evaluated again"
                warnings.warn(lacking, _lines.DamagedLineWarning, stacklevel=2)
            return None
        return Record(self.method, self.seed, tuple(outcome for outcome, _ in evaluated), ledger)

    def begun(self) -> dict[Architecture, tuple[Outcome, float]]:
        """What a run has evaluated that has not ended, and how many seconds each took."""
        ended, _ = _lines.read(self._path, self._parse)  # if lines of it were damaged
        found, damaged = _lines.read(self._draft, self._parse)
        _lines.warn_of(self._draft, damaged)
        return {
            pair[0].architecture: pair for pair in [*ended, *found] if not isinstance(pair, Ledger)
        }

    def add(self, outcome: Outcome, seconds: float, network: object = None) -> Outcome:
        """Append an outcome; it is on disk when this returns. No network is kept."""
        runs.check_inside(self.folder, self._draft)
        make_folder(self._draft.parent)
        _lines.append(self._draft, journal.encode(outcome, seconds))
        return outcome

    def finish(
        self, outcomes: Sequence[Outcome], seconds: Sequence[float], ledger: Ledger
    ) -> Record:
        """Write the whole run, with the seconds of each evaluation."""
        runs.check_inside(self.folder, self._path)
        pairs = zip(outcomes, seconds, strict=True)
        lines = [journal.encode(outcome, each) for outcome, each in pairs]
        with replacing(self._path) as draft:
            draft.write_bytes(b"".join([*lines, _lines.encode({"ledger": asdict(ledger)})]))
        self._draft.unlink(missing_ok=True)
        return Record(self.method, self.seed, tuple(outcomes), ledger)

    def _parse(self, entry: Mapping[str, Any]) -> tuple[Outcome, float] | Ledger:
        """An outcome and its seconds, or the ledger."""
        if "ledger" in entry:
            return Ledger(**entry["ledger"])
        return journal.decode(_older.upright(entry, self.maximize))

    @property
    def _path(self) -> Path:
        return self.folder / "runs" / f"{self.method}-{self.seed}.jsonl"

    @property
    def _draft(self) -> Path:
        return self.folder / "runs" / f"{self.method}-{self.seed}.unfinished.jsonl"


def check_begun(folder: Path, identity: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether the folder holds the same comparison; otherwise one can begin there.

    Args:
        folder: of a comparison, or one that is empty or not there.
        identity: plain values by name; a comparison goes on only with equal ones.
        settings: what the user typed, of which an error speaks first.

    Raises:
        ValueError: the folder holds something else or a comparison with other settings.
    """
    # As they will be read back: lists for tuples.
    identity, settings = json.loads(json.dumps([dict(identity), dict(settings)]))
    if (folder / ABOUT).exists():
        about = _older.renamed(read_about(folder), identity.get("maximize", []))
        told = _difference(about["asked"], settings) or _difference(about["settings"], identity)
        if told:
            raise ValueError(f"{folder} holds a comparison with other settings: {told}")
        return True
    runs.check_free(folder, "a comparison")
    return False


@contextmanager
def at_work(
    folder: Path, identity: Mapping[str, Any], settings: Mapping[str, Any]
) -> Iterator[None]:
    """Begin a comparison in a folder or go on with it there, while no other process does.

    Raises:
        ValueError: as `check_begun`, and if the folder is in use or cannot be written.
    """
    if check_begun(folder, identity, settings) and not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: no permission")
    with _lock.held(folder):
        if not check_begun(folder, identity, settings):  # nor has another process meanwhile
            about = {
                "settings": dict(identity),
                "asked": dict(settings),
                "folder": str(Path.cwd()),
                "paretonas": runs.version_of("paretonas"),
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            with replacing(folder / ABOUT) as draft:
                draft.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        yield


def read_about(folder: Path) -> dict[str, Any]:
    """What a comparison was asked for.

    Raises:
        ValueError: this is not the folder of a comparison.
    """
    about = runs.read_about(folder / ABOUT, "a comparison", {"settings", "asked", "folder"})
    return _older.renamed(about, about["asked"].get("maximize", []))


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name} was {_short(before.get(name))}, now {_short(now.get(name))}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    )


def _short(value: object) -> str:
    text = "not given" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
