"""Read by every Python that a test starts: eml takes the synthetic data for the real ones."""

import os
from pathlib import Path

if "EML_TEST_SPECS" in os.environ:
    from eml.data.specs import SPECS
    from support import synthetic

    SPECS.update(synthetic.install(Path(os.environ["EML_TEST_SPECS"]), SPECS))
