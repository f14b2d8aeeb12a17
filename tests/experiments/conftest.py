"""What the tests of experiments share."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def shown_again(capsys) -> Callable:
    """Check that `--show` says what the run said at last, and draws the same figure.

    Called with the script, the settings of the run and what it printed.
    """

    def check(script, settings, told: str) -> None:
        figure = settings.figure
        drawn = figure.read_bytes()
        assert len(drawn) > 5_000
        figure.unlink()
        script.main(["--show"], settings)
        again = capsys.readouterr().out.strip()
        assert again and told.strip().endswith(again)
        assert figure.read_bytes() == drawn

    return check
