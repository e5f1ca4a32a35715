"""A worker beside the HTTP face lets it go first."""

import subprocess
import sys

PROGRAM = """
import os
from workers.scheduling import AUTOGROUP, give_way
give_way(7)
print(os.nice(0), AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else 7)
"""


def test_a_process_that_gives_way_is_nicer_and_so_is_its_session() -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert told.stdout.split() == ["7", "7"]
