"""Which part of eml may import which: docs/architecture.md, "Floors"."""

import ast
import re
from pathlib import Path

import eml

PACKAGE = Path(eml.__file__).parent
# From the top: a part may import the parts on lower floors, and itself.
FLOORS = [
    {"__main__", "__init__"},
    {"cli"},
    {"commands"},
    {"handin"},
    {"sweeps"},
    {"launchers", "exact"},
    {"tracking"},
    {"training", "recipes"},
    {"analysis", "models"},
    {"config"},
    {"data", "models.optimizers"},
    {"errors", "machine", "seeds"},
]


def part_of(module: str) -> str:
    """The part of eml that holds a module; a module may be a part of its own."""
    return module if any(module in parts for parts in FLOORS) else module.partition(".")[0]


def imports() -> set[tuple[str, str, str]]:
    """(part that imports, part that is imported, file), for every import within eml."""
    edges = set()
    for file in PACKAGE.rglob("*.py"):
        path = file.relative_to(PACKAGE)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "eml":
                modules = [node.module] if node.module != "eml" else [a.name for a in node.names]
                parts = {part_of(module.removeprefix("eml.")) for module in modules}
                importing = part_of(".".join(path.with_suffix("").parts))
                edges |= {(importing, part, str(path)) for part in parts}
    return edges


def test_a_part_imports_lower_floors_alone():
    floor = {part: number for number, parts in enumerate(FLOORS) for part in parts}
    parts = {path.name.removesuffix(".py") for path in PACKAGE.glob("[!_.]*")} - {"py.typed"}
    assert parts | {"__main__", "__init__"} == {part for part in floor if "." not in part}
    upward = [
        f"{file} imports {imported}"
        for part, imported, file in sorted(imports())
        if part != imported and floor[part] >= floor[imported]
    ]
    assert upward == []


def test_only_tracking_imports_mlflow():
    importing = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Import) and any(a.name == "mlflow" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "mlflow")
    }
    assert {path.partition("/")[0] for path in importing} == {"tracking"}


def test_only_tracking_reads_the_variables_of_mlflow():
    """Except errors.py, which hides the password in the address, and machine.py (the given run)."""
    files = {
        str(f.relative_to(PACKAGE)) for f in PACKAGE.rglob("*.py") if "MLFLOW_" in f.read_text()
    }
    outside = {path for path in files if not path.startswith("tracking/")}
    assert outside == {"errors.py", "machine.py"}


def test_only_its_folder_and_its_row_name_slurm():
    """Elsewhere a launcher answers for its jobs, and the tags of stored runs keep their names."""
    lines = {
        f"{path}: {line.strip()}"
        for file in PACKAGE.rglob("*.py")
        if not (path := str(file.relative_to(PACKAGE))).startswith("launchers/slurm/")
        for line in file.read_text().splitlines()
        if "slurm" in line.lower()
    }
    tags = {line for line in lines if re.search(r' = "slurm_(job|log)"  #', line)}
    assert {line.partition(":")[0] for line in tags} == {"tracking/tags.py", "analysis/fairness.py"}
    assert lines - tags == {
        "launchers/options.py: from eml.launchers.slurm.settings import JobOptions",
        "launchers/options.py: "
        '"slurm": Row("eml.launchers.slurm.launcher", "Slurm", tuple(JobOptions.__annotations__)),',
    }
