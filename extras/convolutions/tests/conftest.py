"""Lets the tests import the modules beside this folder."""

import os
import sys
from pathlib import Path

# Before PyTorch is imported: two workers of pytest with two threads each wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))
