"""One HTML page that tells how a run went; it opens anywhere and loads nothing."""

from paretonas.report.page import write_report

__all__ = ["write_report"]
