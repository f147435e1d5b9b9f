"""Makes the PDF and the archive beside a form, with eml's source."""

import subprocess
from pathlib import Path

from eml.handin import archive
from eml.handin.checks import checks
from eml.handin.form import write_files
from eml.handin.handin import load
from eml.tracking import log, runs
from eml.tracking.mlflow_run import given_run_id
from eml.tracking.provenance import git_tags, uncommitted
from eml.tracking.reap import begin

ROOT = archive.PACKAGE.parents[1]  # of the checkout, if this is one
ABOUT = "The hand-in of a sheet: the PDF, and the archive beside it."


def make(form: Path, stores: str = "") -> None:
    """Make the PDF and the archive beside the form, and say what the sheet still asks for.

    Started by `mlflow run`, also logs them as artifacts. Raises UserError before anything is
    written. stores: of others, read besides those that the form names.
    """
    handin = load(form, stores)
    for problem in handin.problems.values():
        raise problem
    files = archive.build(handin)
    name, folder = handin.sheet.file, form.parent
    pdf, here = files[f"{name}.pdf"], git_tags(uncommitted())
    source = _source(is_checkout=here["git_commit"] != "unknown")
    files |= {f"source/{path}": data for path, data in source.items()}
    if "conda.yaml" in source:
        files["conda.yaml"] = source["conda.yaml"]
    write_files({f"{name}.pdf": pdf, f"{name}.zip": archive.write(handin, files)}, folder)
    if given_run_id():
        begin()
        with runs.run("handin", ABOUT, {"recipe": "handin"}):
            log.log_files(folder / f"{name}.pdf")
    commits = {str(run.get("git_commit")) for _, run in handin.runs}
    if (commits, here["git_dirty"]) != ({here["git_commit"]}, "false"):
        print(
            f"warning: the runs are of commit {', '.join(sorted(c[:9] for c in commits))}, the "
            f"source is of {here['git_commit'][:9]}, uncommitted changes: {here['git_dirty']}"
        )
    failed = [str(check) for check in checks(handin) if check.why]
    drafts = [f"draft: {reason}" for reason in handin.draft]
    print("".join(f"{line}\n" for line in [*failed, *drafts]), end="")
    print(f"made {folder / name}.pdf and {folder / name}.zip")
    if failed:
        print(f"rules of the sheet that are not met yet: {len(failed)}")


def _source(is_checkout: bool) -> dict[str, bytes]:
    """Read eml's source by path, as it is now: the package, and what git tracks beside it."""
    files = archive.package()
    if is_checkout:
        git = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True)
        paths = [path for path in git.stdout.decode().split("\0") if (ROOT / path).is_file()]
        files |= {path: (ROOT / path).read_bytes() for path in paths}
    return files
