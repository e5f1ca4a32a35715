"""How much of the processor a worker asks for beside the other processes of its machine."""

import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def give_way(niceness: int) -> None:
    """Let others go first when there is not enough for all: the calling process, and all that it will start.

    Linux may schedule whole sessions against each other (`sched_autogroup_enabled`); niceness then counts only inside a
    session, and the session has one of its own, which is set as well where there is one.

    Args:
        niceness: 0 to 19; each step is about a tenth of the processor's time less.
    """
    os.nice(niceness)
    with suppress(OSError):
        AUTOGROUP.write_text(str(niceness))
