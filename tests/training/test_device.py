"""The machine under a training: what it is told about memory."""

import subprocess
import sys
from pathlib import Path

import pytest

LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
IN_LARGE_PAGES = """
import torch
from pathlib import Path
from training.device import choose_device

choose_device()
x = torch.ones(2**26)
words = Path("/proc/self/smaps_rollup").read_text().split()
print(words[words.index("AnonHugePages:") + 1])
"""


@pytest.mark.skipif(
    not LARGE_PAGES.exists() or "[madvise]" not in LARGE_PAGES.read_text(), reason="no large pages here, or always"
)
def test_feature_maps_lie_in_large_pages() -> None:
    done = subprocess.run([sys.executable, "-c", IN_LARGE_PAGES], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100_000  # of the tensor's 262,144 kB
