"""The archive: whatever is changed in it, or lacks, or is otherwise in the store is named."""

import hashlib
import io
import json
import re
import sqlite3
import zipfile
from random import Random

import pandas as pd
import pytest

from eml.errors import UserError
from eml.handin import archive
from eml.handin.evidence import ABOUT, DEFAULTS, LOGGED, METRICS, REST, of_csv
from eml.handin.handin import load
from eml.handin.source import source
from support import tables
from support.commands import run_here
from support.expected_numbers import changed, expected_numbers
from support.handins import form_of, handin
from support.random_runs import name_runs, written


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The files of an archive of sheet 2, manifest included."""
    made = handin("ex2-2025", tmp_path_factory.mktemp("whole"))
    files = archive.build(made) | {"source/.DS_Store": b"tracked by git"}
    return unzipped(archive.write(made, files))


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in files.items():
            made.writestr(name, data)
    return buffer.getvalue()


def differences(files: dict[str, bytes]) -> list[str]:
    return list(archive.differences(archive.read(zipped(files))))


def edited(files, path, old: bytes, new: bytes, *, also_in_manifest=False) -> dict[str, bytes]:
    assert old in files[path], (path, old)
    changed = {**files, path: files[path].replace(old, new)}
    if also_in_manifest:  # a careful cheat
        about = json.loads(changed["manifest.json"])
        about["sha256"][path] = hashlib.sha256(changed[path]).hexdigest()
        changed["manifest.json"] = json.dumps(about).encode()
    return changed


CSV, FIGURE = "histories/mlp_numpy.csv", "figures/mlp_numpy/loss_over_epochs.svg"
RUN = b"1" * 32


def test_an_untouched_archive_has_no_differences(whole):
    assert differences(whole) == []


FINAL = "mlp_numpy.final_test_accuracy in manifest.json: the histories give "
PDF = "ex2.pdf is not what the data in the archive give"
NAMED = {
    "a number": (("manifest.json", b'"value": 0.98\n', b'"value": 0.99\n'), [FINAL + "98.00"]),
    "a figure": ((FIGURE, b'<path d="M', b'<path d="L'), [FIGURE]),
    "a CSV": ((CSV, b",0.98,", b",0.99,"), [FINAL, FIGURE.replace("loss", "test_accuracy"), PDF]),
    "a run id": ((CSV, RUN, b"9" * 32), [FINAL, PDF]),
    "a text": (("form/handin.toml", b"As expected.", b"Better."), [PDF]),
}


@pytest.mark.parametrize(("change", "starts"), NAMED.values(), ids=NAMED)
def test_a_change_is_named_even_if_the_manifest_has_its_digest(change, starts, whole):
    path = change[0]
    lines = differences(edited(whole, *change, also_in_manifest=path != "manifest.json"))
    for start in starts:
        assert any(line.startswith(start) for line in lines)
    assert not any(line.startswith(f"{path} is changed") for line in lines)


def test_every_byte_of_every_file_counts(whole):
    kept = {"manifest.json": of_another_version(whole)["manifest.json"]}  # no PDF is made again
    longer = {path: data + b"\n" for path, data in whole.items() if path not in kept}
    longer |= {"x.txt": b""}
    starts = [line.partition(" is changed or new: ")[0] for line in differences(longer | kept)]
    assert starts == sorted(longer)


JUNK = ("__MACOSX/ex2/._ex2.pdf", ".DS_Store", "Thumbs.db", "form/desktop.ini", "._form/.directory")


@pytest.mark.parametrize("top", ["", "ex2/", "Group 3/ex2/"])
def test_what_file_managers_add_is_as_if_it_were_not_there(top, whole):
    inside = {top + path: data for path, data in whole.items()}
    for junk in (JUNK, [top + path for path in JUNK], []):
        assert archive.read(zipped(dict.fromkeys(junk, b"") | inside)).files == whole


@pytest.mark.parametrize("path", ["ex2.pdf", FIGURE])
@pytest.mark.parametrize("forgotten", [False, True])
def test_what_is_missing_is_named_also_if_the_manifest_forgets_it(path, forgotten, whole):
    left = {other: data for other, data in whole.items() if other != path}
    if forgotten:
        about = json.loads(whole["manifest.json"])
        del about["sha256"][path]
        left["manifest.json"] = json.dumps(about).encode()
    assert differences(left) == [f"{path} is missing"]


def test_a_missing_pdf_is_in_the_table(whole, tmp_path):
    left = {path: data for path, data in of_another_version(whole).items() if path != "ex2.pdf"}
    (tmp_path / "a.zip").write_bytes(zipped(left))
    done = run_here("handin", "check", str(tmp_path / "a.zip"))
    head, _, row, *lines = done.stdout.splitlines()
    names, cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in (head, row))
    assert dict(zip(names, cells, strict=True)) == {
        "archive": "a.zip",
        "sheet": "ex2",
        "names": "Ada Lovelace, Alan Turing",
        "rules": "met",
        "draft": "",
        "code": "unknown",
        "PDF": "missing",
        "numbers": "1 differ",
    }
    assert lines == ["a.zip: ex2.pdf is missing"]


def test_several_archives_are_sorted_as_a_person_would_and_their_common_runs_are_named(
    whole, tmp_path
):
    files = []
    for group in (10, 2):
        (tmp_path / f"group{group}").mkdir()
        files.append(tmp_path / f"group{group}" / "ex2.zip")
        files[-1].write_bytes(zipped(whole))
    done = run_here("handin", "check", *map(str, files))
    assert done.returncode == 1
    assert "group2/ex2.zip and group10/ex2.zip share 6 runs: 00000000, " in done.stdout
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| group")]
    assert [row[1].strip() for row in rows] == ["group2/ex2.zip", "group10/ex2.zip"]
    assert {row[-2].strip() for row in rows} == {"verified"}


def test_an_archive_from_before_a_column_is_read(whole):
    """A metric, a tag, or a field of Config with a default, that a later version has added."""
    table = pd.read_csv(io.BytesIO(whole[CSV]), dtype=str, keep_default_na=False)
    numbered = {"test_loss", "train_loss", "test_accuracy", "train_seconds", "parameters"}
    later = {*ABOUT, *DEFAULTS, *LOGGED, *REST, *METRICS} - {"run_id", "recipe", "epoch"}
    for names in (*([name] for name in later), later - numbered):
        csv = table.drop(columns=names).to_csv(index=False, lineterminator="\n").encode()
        (values,) = of_csv(csv, "mlp_numpy", CSV).values
        assert {name: str(values[name]) for name in DEFAULTS} == DEFAULTS
    old = edited(of_another_version(whole) | {CSV: csv}, CSV, csv, csv, also_in_manifest=True)
    assert differences(old) == []


def of_another_version(files: dict[str, bytes]) -> dict[str, bytes]:
    about = json.loads(files["manifest.json"])
    about["versions"]["eml"] = "0" * 12
    return {**files, "manifest.json": json.dumps(about).encode()}


def test_a_zip_of_commit_e471618_verifies(old_store):
    theirs = archive.read((old_store / "ex3.zip").read_bytes())
    assert len(theirs.numbers) > 70
    assert "mlp_vs_cnn.cnn.leads_from_seconds" in theirs.numbers  # unknown to this version
    assert not theirs.is_of_this_version
    assert list(archive.differences(theirs)) == []


def test_the_zip_has_the_packages_and_another_machine_may_have_others(tmp_path, monkeypatch):
    made = handin("ex2-2025", tmp_path)
    files = unzipped(archive.write(made, archive.build(made) | source()))
    assert f"pandas=={pd.__version__}\n".encode() in files["source/packages.txt"]
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info/METADATA").write_text("Name: other\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert source()["source/packages.txt"] != files["source/packages.txt"]
    assert archive.read(zipped(files)).is_of_this_version
    assert differences(files) == []


def test_of_another_version_only_digests_and_numbers_are_compared(whole):
    other = of_another_version(whole)
    assert not archive.read(zipped(other)).is_of_this_version
    assert differences(other) == []
    assert differences(edited(other, FIGURE, b"M", b"L", also_in_manifest=True)) == []
    careful = edited(other, CSV, b",0.98,", b",0.99,", also_in_manifest=True)
    assert any("mlp_numpy.final_test_accuracy" in line for line in differences(careful))
    # A number of this name is known to this version alone.
    here, there = (
        differences(edited(files, "manifest.json", b'mlp_numpy.n"', b'mlp_numpy.m"'))
        for files in (whole, other)
    )
    assert here == ["mlp_numpy.m in manifest.json: the histories give no such number"]
    assert there == []


@pytest.mark.parametrize("data", [b"PK\x03\x04 no", b""])
def test_what_is_no_archive_is_one_line(data):
    with pytest.raises(UserError, match="no readable zip"):
        archive.read(data)


@pytest.mark.parametrize(
    ("path", "content", "line"),
    [
        ("manifest.json", b"{}", "manifest.json is damaged"),
        (CSV, b"a,b\n1,2\n", "holds no histories"),
        (CSV, b"\xff\xfe", "holds no histories"),
        ("form/handin.toml", None, "lacks form/handin.toml"),
        ("form/handin.toml", b"= no", "is not TOML"),
    ],
)
def test_a_damaged_archive_is_one_line(path, content, line, whole):
    files = {name: data for name, data in {**whole, path: content}.items() if data is not None}
    with pytest.raises(UserError, match=line):
        archive.read(zipped(files))


def test_an_absurd_number_in_a_csv_is_no_traceback(whole):
    for old, new in ((b",0.98,", b",1e308,"), (b",30,", b",-5,"), (b",2.0,", b",inf,")):
        with pytest.raises(UserError, match="holds no histories: "):
            differences(edited(whole, CSV, old, new))
    assert differences(edited(whole, CSV, b",0.98,", b",nan,"))


SHEET2 = ("mlp_numpy", "lr_sweep")
JUDGED = r"\.(final_)?(low|high)(_to_.*)?$"  # numbers that other tests compare


@pytest.fixture
def of_store(store, tmp_path):
    """The runs of a random store by recipe, and the files of an archive without its PDF."""
    runs = written(store, tmp_path, 7)
    form_of("ex2-2025", tmp_path, name_runs(runs))
    made = load(tmp_path / "handin.toml")
    files = {"form/handin.toml": made.form.content}
    files |= {f"histories/{recipe}.csv": one.csv for recipe, one in made.evidence.items()}
    return runs, unzipped(archive.write(made, files))


def names_in(lines) -> set[str]:
    """The names of the numbers in these lines, without those that test_verdicts.py is about."""
    names = {line.partition(" in manifest.json: ")[0] for line in lines}
    return {name for name in names if not re.search(JUDGED, name)}


def test_a_run_that_is_missing_changes_the_numbers_that_the_tables_say(of_store):
    runs, files = of_store
    for recipe in SHEET2:
        path, before = f"histories/{recipe}.csv", expected_numbers(recipe, runs[recipe])
        for run in runs[recipe][:4]:
            lines = files[path].splitlines(keepends=True)
            left = b"".join(line for line in lines if not line.startswith(run.run_id.encode()))
            forged = archive.read(zipped({**files, path: left}))
            after = expected_numbers(recipe, [one for one in runs[recipe] if one is not run])
            differences = archive.other_numbers(forged, forged.handin, "")
            assert names_in(differences) == changed(before, after) != set()


def test_a_digit_of_the_store_that_is_not_printed_is_named(of_store, tmp_path):
    runs, files = of_store
    opened, random, named = archive.read(zipped(files)), Random(1), set()
    before = {recipe: expected_numbers(recipe, runs[recipe]) for recipe in SHEET2}
    assert list(archive.other_runs(opened, ())) == []
    db = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    points = (
        "SELECT rowid, value FROM metrics WHERE run_uuid = ? AND timestamp = 1000 "
        "AND NOT is_nan AND value < 1e300 AND key NOT LIKE 'final%' ORDER BY step DESC LIMIT ?"
    )
    for recipe in random.choices(SHEET2, k=9):
        run = random.choice(runs[recipe])
        row, value = random.choice(sorted(db.execute(points, [run.run_id, random.choice([4, 99])])))
        db.execute(f"UPDATE metrics SET value = {value * (1 - 1e-6) or 1e-6} WHERE rowid = {row}")
        stored = tables.read(tmp_path / "mlflow.db")
        after = expected_numbers(recipe, [stored[one.run_id] for one in runs[recipe]])
        *numbers, last = archive.other_runs(opened, ())
        assert last == f"histories/{recipe}.csv: the stores give other values of {run.run_id}"
        assert names_in(numbers) == changed(before[recipe], after)
        named |= {name.rpartition(".")[2] for name in names_in(numbers)}
        db.execute(f"UPDATE metrics SET value = {value} WHERE rowid = {row}")
    db.close()
    assert len(named) > 4
