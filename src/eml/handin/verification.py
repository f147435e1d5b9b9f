"""Works out everything in an archive again, and names each difference."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from eml.errors import UserError
from eml.handin import archive
from eml.handin.archive import FORM_FOLDER, MANIFEST
from eml.handin.content import compose
from eml.handin.evidence import Evidence, of_runs
from eml.handin.handin import Handin
from eml.handin.typesetting import typeset
from eml.text import printable
from eml.tracking.history import METRICS
from eml.tracking.stores import Others


def of_files(handin: Handin, about: Mapping[str, Any], files: Mapping[str, bytes]) -> Iterator[str]:
    """The differences between an archive's files, its manifest, and what follows from its data.

    Arguments as archive.read() returns them.
    """
    listed = about["sha256"]
    for path in sorted(listed.keys() | files.keys() - {MANIFEST}):
        if path not in files:
            yield f"{printable(path, 200)} is missing"
        elif path not in listed:
            yield f"{printable(path, 200)} is not in {MANIFEST}"
        elif hashlib.sha256(files[path]).hexdigest() != listed[path]:
            yield f"{printable(path, 200)} was changed: its SHA-256 is not that of {MANIFEST}"
    try:
        content = compose(handin)
        pdf = typeset(content.data, content.figures | content.images, handin.form.date)
    except UserError as error:
        yield f"the PDF cannot be made again: {error.shown()}"
        return
    yield from _numbers(handin, about)
    if about.get("draft") != handin.draft:
        yield f"{MANIFEST} calls it a draft for other reasons than the data, {handin.draft}"
    for path, data in archive.members(handin, content, pdf).items():
        if path.startswith(f"{FORM_FOLDER}/"):
            continue  # it was read from there
        if path not in files:
            yield f"{path} is missing"
        elif data != files[path] and about.get("versions") == archive.versions():
            yield f"{path} is not what the data in the archive give"


def unverified(about: Mapping[str, Any]) -> str:
    """What of an archive cannot be compared byte for byte here; "" if all can."""
    theirs, ours = about.get("versions"), archive.versions()
    if theirs == ours:
        return ""
    theirs = theirs if isinstance(theirs, dict) else {}
    other = ", ".join(
        f"{name} {printable(theirs.get(name, 'unknown'), 30)}, here {ours[name]}"
        for name in ours
        if theirs.get(name) != ours[name]
    )
    return f"figures and PDF cannot be compared byte for byte: made with {other}"


def _numbers(handin: Handin, about: Mapping[str, Any]) -> Iterator[str]:
    """The printed numbers that differ from those that the histories give."""
    listed, printed = about["numbers"], handin.numbers.printed
    for name in sorted(listed.keys() | printed.keys()):
        if name not in printed:
            yield f"{printable(name, 100)} is in {MANIFEST}, but not printed"
        elif name not in listed:
            yield f"{name} is printed, but not in {MANIFEST}"
        elif listed[name] != archive.entry(printed[name]):
            given = listed[name] if isinstance(listed[name], dict) else {}
            other = [k for k, v in archive.entry(printed[name]).items() if given.get(k) != v]
            yield (
                f"{name} in {MANIFEST}: {', '.join(other)} differ, the histories give "
                f"{printed[name].shown}"
            )


def of_store(handin: Handin, others: Others = ()) -> tuple[list[str], int]:
    """The differences between an archive's histories and the stores; how many runs these have."""
    differences, found = [], 0
    for recipe, evidence in handin.evidence.items():
        ids = [*evidence.history["run_id"].unique(), *evidence.tried.get("run_id", ())]
        stored, missing = of_runs(list(dict.fromkeys(ids)), recipe, others)
        differences += [f"{recipe}: run {run_id} is not in the store" for run_id in missing]
        found += len(set(ids)) - len(missing)
        if stored:
            differences += _unlike(recipe, evidence, stored)
    return differences, found


def _unlike(recipe: str, evidence: Evidence, stored: Evidence) -> Iterator[str]:
    for ours, theirs in ((evidence.history, stored.history), (evidence.tried, stored.tried)):
        if ours.empty or theirs.empty:
            continue
        keys = ["run_id", "epoch"]
        both = ours.merge(theirs, on=keys, how="left", suffixes=("", " stored"), indicator=True)
        for run_id in both.loc[both["_merge"] == "left_only", "run_id"].unique():
            if run_id in set(theirs["run_id"]):
                yield f"{recipe}: run {run_id} has other epochs in the store"
        both = both[both["_merge"] == "both"]
        for name in ours:
            other = f"{name} stored"
            if other not in both or name == "store":  # that depends on where one stands
                continue
            a, b = both[name], both[other]
            differ = (a != b) & ~(a.isna() & b.isna())
            for _, row in both[differ].drop_duplicates("run_id").iterrows():
                where = f" of epoch {row['epoch']}" if name in METRICS else ""
                yield (
                    f"{recipe}: {name}{where} of run {row['run_id']} is {row[name]}, in the store "
                    f"{row[other]}"
                )
