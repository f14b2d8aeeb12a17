"""The report of a run: one HTML page that opens anywhere and loads nothing."""

from paretonas.report.page import write_report

__all__ = ["write_report"]
