"""eml's own source in a hand-in: what the zip holds, its state, what implements an exercise."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eml.handin.sheet import Exercise
from eml.tracking import provenance

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parents[1]  # of the checkout, if this is one
# What running needs besides the package.
BESIDE = ("MLproject", "conda.yaml", "pyproject.toml", "README.md", "LICENSE")
# Packages whose version decides the bytes of figures and PDF, besides eml's own source.
DECIDING = ("matplotlib", "numpy", "pandas", "typst")


def package() -> dict[str, bytes]:
    """Read the files of this package, by their paths in a checkout."""
    return {
        f"src/eml/{file.relative_to(PACKAGE).as_posix()}": file.read_bytes()
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def source() -> dict[str, bytes]:
    """Read what is needed to run eml as it is now, by path in the zip, and list the packages."""
    beside = {name: (ROOT / name).read_bytes() for name in BESIDE if (ROOT / name).is_file()}
    beside["packages.txt"] = provenance.packages().encode()
    return {f"source/{path}": data for path, data in (package() | beside).items()}


def versions() -> dict[str, str]:
    """Return the versions of the packages in DECIDING, and the digest of eml's source."""
    content = b"".join(path.encode() + data for path, data in sorted(package().items()))
    digest = hashlib.sha256(content).hexdigest()[:12]
    return {"eml": digest} | {name: version(name) for name in DECIDING}


def state() -> dict[str, Any]:
    """Return eml's version, its commit, and what differs from the commit that it was cloned at."""
    commit, (base, changes) = provenance.code_state()["git_commit"], provenance.changes()
    return {"version": version("eml"), "commit": commit, "base": base, "changes": changes}


def files_of(exercise: Exercise) -> list[str]:
    """Return the files below src/eml that implement an exercise, with the number of their lines."""
    recipes = [f"recipes/{assignment.recipe}.py" for assignment in exercise.trainings]
    sources = package()
    lines = {name: sources[f"src/eml/{name}"].splitlines() for name in (*exercise.code, *recipes)}
    return [f"{name} ({len(text)} lines)" for name, text in lines.items()]
