"""`paretonas report`: the HTML page of a run or of a comparison."""

from __future__ import annotations

from pathlib import Path

from paretonas import runs
from paretonas.cli.compare import redraw
from paretonas.cli.find import Consent
from paretonas.compare.folder import ABOUT as COMPARISON
from paretonas.report import write_report
from paretonas.runs import Run


def write_page(folder: Path, out: Path | None, consent: Consent) -> None:
    """Draw the page and say where it is."""
    page = out or folder / "report.html"
    if (folder / COMPARISON).exists():
        redraw(folder, page, consent)
    elif (folder / runs.ABOUT).exists():
        write_report(Run.open(folder), page)
    else:
        raise ValueError(
            f"{folder} is not the folder of a run or a comparison: no {runs.ABOUT}, no {COMPARISON}"
        )
    print(f"the report is {page}")
