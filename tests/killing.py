"""Read by the tests that kill: their programs begin with this file."""

import os
import random
import signal
import time


def kill_often(go, look, *, first, longer, most=None):
    """Fork, kill the child at a random moment, and look; until `go` ends before it is killed.

    One process forks another for each kill, which spares the imports.

    Args:
        go: what the child does.
        look: checks what the child has left.
        first: seconds that the first child lives at the most.
        longer: factor on these for each child after it.
        most: kills after which to stop.

    Returns:
        How many were killed.
    """
    rng, kills = random.Random(0), 0
    while kills != most:
        child = os.fork()
        if not child:
            code = 1
            try:
                go()
                code = 0
            finally:
                os._exit(code)
        time.sleep(rng.uniform(0, first * longer**kills))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        assert killed or os.waitstatus_to_exitcode(status) == 0, status
        look()
        if not killed:
            break
        kills += 1
    return kills
