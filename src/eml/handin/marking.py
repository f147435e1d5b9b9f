"""The table of several hand-ins, for the staff."""

import os
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from eml.analysis.tables import markdown
from eml.errors import UserError, printable
from eml.handin import archive
from eml.handin.form import read_file
from eml.handin.handin import checks
from eml.tracking.find import Others, names_in, open_others

SHOWN = 100  # characters of names


def check_archives(paths: Sequence[Path], stores: str) -> bool:
    """Print a row for each archive, then all that is wrong in them; return whether anything is.

    Rows are named by the part of the path that tells them apart. stores: of others, whose runs are
    compared, too, with those of the store here.
    """
    top = os.path.commonpath([path.absolute().parent for path in paths])
    names = {os.path.relpath(path.absolute(), top): path for path in paths}
    others = open_others(names_in(stores))  # once for all archives: a file is copied to be read
    rows, lines, runs = [], list[str](), dict[str, set[str]]()
    for name in sorted(names, key=_as_a_person_sorts):
        row, wrong, runs[name] = _checked(names[name], others)
        rows.append({"archive": printable(name, SHOWN)} | row)
        lines += [f"{printable(name, SHOWN)}: {line}" for line in wrong]
    for one, other in combinations(runs, 2):
        if common := sorted(runs[one] & runs[other]):
            ids = ", ".join(run_id[:8] for run_id in common[:3])
            lines.append(printable(f"{one} and {other} share {len(common)} runs: {ids}"))
    print(markdown(rows) + "".join(f"{line}\n" for line in lines), end="")
    return bool(lines)


def _as_a_person_sorts(name: str) -> list[tuple[int, str]]:
    """A key by which group2 comes before group10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _checked(path: Path, others: Others) -> tuple[dict[str, str], list[str], set[str]]:
    """The row of an archive, what is wrong in it, and the ids of its runs."""
    try:
        opened = archive.read(read_file(path))
        rules, differences = checks(opened.handin), list(archive.differences(opened, others))
        draft = opened.handin.draft
    except UserError as error:
        unknown = dict.fromkeys(("sheet", "names", "rules", "draft", "code", "PDF"), "")
        return unknown | {"numbers": "not verified"}, [error.shown()], set()
    form, code = opened.handin.form, opened.handin.code
    broken = [str(rule) for rule in rules if rule.why]
    changed = "changed" if code.get("changes") else "unchanged" if code.get("base") else "unknown"
    version = "" if opened.is_of_this_version else ", of another version"
    row = {
        "sheet": form.sheet.file,
        "names": printable(", ".join(form.names), SHOWN),
        "rules": f"{len(broken)} broken" if broken else "met",
        "draft": "draft" if draft else "",
        "code": f"own, eml {changed}" if opened.handin.own_code else changed,
        "PDF": "" if f"{form.sheet.file}.pdf" in opened.files else "missing",
        "numbers": f"{len(differences)} differ" if differences else f"verified{version}",
    }
    return row, [*broken, *differences], {str(run["run_id"]) for _, run in opened.handin.runs}
