"""`python -m eml`, and the file that MLproject runs."""

import sys
from pathlib import Path

if not __package__:
    # Run by its path: take the package that this file is part of, whatever copy of eml the
    # environment may have installed, and keep eml's modules from being found as top-level ones.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from eml.cli import main

if __name__ == "__main__":
    main()
