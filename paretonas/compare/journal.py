"""A comparison on disk: what was asked, and each run's evaluations, so that it can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paretonas import runs
from paretonas._atomic import replacing
from paretonas.point import Point
from paretonas.samplers import Failure, Ledger, Outcome
from paretonas.space import Architecture

ABOUT = "compare.json"


@dataclass(frozen=True)
class Record:
    """A finished run of one method with one seed: each outcome in order, and the bill."""

    method: str
    seed: int
    outcomes: tuple[Outcome, ...]
    ledger: Ledger


@dataclass(frozen=True)
class Journal:
    """One run's file. It is whole or not there; while the run goes on, a second file grows.

    Attributes:
        folder: of the comparison.
        method: which one runs.
        seed: what its random numbers start from.
    """

    folder: Path
    method: str
    seed: int

    def finished(self) -> Record | None:
        """The record of the run if it has ended.

        Raises:
            ValueError: the file was written by something else.
        """
        if not self._path.exists():
            return None
        try:
            *lines, last = self._path.read_text(encoding="utf-8").splitlines()
            outcomes = tuple(_outcome(json.loads(line)) for line in lines)
            return Record(self.method, self.seed, outcomes, Ledger(**json.loads(last)["ledger"]))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self._path} is no record of a run: {error}") from error

    def begun(self) -> dict[Architecture, tuple[Outcome, float]]:
        """What an interrupted run has evaluated, and how many seconds each took."""
        if not self._draft.exists():
            return {}
        found: dict[Architecture, tuple[Outcome, float]] = {}
        whole = 0
        text = self._draft.read_bytes()
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            try:
                entry = json.loads(line)
                outcome, seconds = _outcome(entry), float(entry["seconds"])
            except (ValueError, TypeError, KeyError):  # what a crash has torn is evaluated again
                break
            found[outcome.architecture] = outcome, seconds
            whole += len(line)
        self._draft.write_bytes(text[:whole])
        return found

    def add(self, outcome: Outcome, seconds: float) -> None:
        """Append what an evaluation found; it is on disk when this returns."""
        self._draft.parent.mkdir(parents=True, exist_ok=True)
        with self._draft.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**_entry(outcome), "seconds": seconds}) + "\n")

    def finish(self, outcomes: Sequence[Outcome], ledger: Ledger) -> Record:
        """Write the whole run."""
        lines = [*map(_entry, outcomes), {"ledger": asdict(ledger)}]
        with replacing(self._path) as draft:
            draft.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self._draft.unlink(missing_ok=True)
        return Record(self.method, self.seed, tuple(outcomes), ledger)

    @property
    def _path(self) -> Path:
        return self.folder / "runs" / f"{self.method}-{self.seed}.jsonl"

    @property
    def _draft(self) -> Path:
        return self.folder / "runs" / f"{self.method}-{self.seed}.unfinished.jsonl"


def begin_or_go_on(folder: Path, settings: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Make the folder of a comparison, or see that the one there was asked for the same.

    Args:
        folder: made, with its parents, if it is not there.
        settings: plain values by name; a comparison goes on only with equal ones.
        asked: the same in the user's own words, of which an error speaks first.

    Raises:
        ValueError: the folder holds something else or a comparison with other settings.
    """
    # As they will be read back: lists for tuples.
    settings, asked = json.loads(json.dumps([dict(settings), dict(asked)]))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a comparison needs a folder")
    if (folder / ABOUT).exists():
        about = read_about(folder)
        told = _difference(about["asked"], asked) or _difference(about["settings"], settings)
        if told:
            raise ValueError(f"{folder} holds a comparison with other settings: {told}")
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty and holds no comparison; give --out a new or empty folder"
        )
    else:
        about = {
            "settings": settings,
            "asked": asked,
            "folder": str(Path.cwd()),
            "paretonas": runs.version_of("paretonas"),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with replacing(folder / ABOUT) as draft:
            draft.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def check_writable(folder: Path) -> None:
    """See that runs can be kept in the folder of a comparison.

    Raises:
        ValueError: they cannot.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: no permission")


def read_about(folder: Path) -> dict[str, Any]:
    """What a comparison was asked for.

    Raises:
        ValueError: this is not the folder of a comparison.
    """
    return runs.read_about(folder / ABOUT, "a comparison", {"settings", "asked", "folder"})


def _entry(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {"architecture": dict(outcome.architecture)}
    if isinstance(outcome, Failure):
        return {**found, "failure": outcome.reason}
    return {**found, "objectives": dict(outcome.objectives)}


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    architecture = Architecture(entry["architecture"])
    if "failure" in entry:
        return Failure(architecture, entry["failure"])
    return Point(architecture, entry["objectives"])


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name} was {_short(before.get(name))}, now {_short(now.get(name))}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    )


def _short(value: object) -> str:
    text = "not given" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
