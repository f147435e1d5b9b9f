"""The PDF and the archive: text is data, equal data give equal bytes, every change is named."""

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile

import pandas as pd
import pytest

from eml.errors import UserError
from eml.handin import archive
from eml.handin.content import compose
from eml.handin.document import image_name
from eml.handin.evidence import ABOUT, DEFAULTS, LOGGED, METRICS, REST, of_csv
from support.commands import ROOT, run_here
from support.handins import handin

NAMES = [
    "#panic() $x$ @ref <label> \\ \"q\" 'q' `raw` *b* _i_ ~ // c /* c */ [x]",
    "Jürgen Müßig",
    "محمد",
    "Ada 😀",
]


def pdf_of(made) -> bytes:
    return archive.build(made)[f"{made.form.sheet.file}.pdf"]


def texts_of(change):
    """A change of the discussion of sheet 2's first figure."""

    def set_text(form):
        form["exercise"]["2.2"]["mlp_numpy"]["loss_over_epochs"]["discussion"] = change

    return set_text


def test_markup_in_names_and_texts_stays_text(tmp_path):
    made = handin(
        "ex2-2025",
        tmp_path,
        lambda form: form.update(names=NAMES, group="#let x = 1"),
        texts_of("\n\n".join(["<b>no HTML</b> #panic() $1/0$ @x", *NAMES])),
    )
    document = compose(made)
    assert document.names == NAMES
    assert "<b>no HTML</b> #panic() $1/0$ @x" in repr(document)
    assert pdf_of(made).startswith(b"%PDF")


def test_a_letter_without_glyph_is_named(tmp_path):
    made = handin("ex2-2025", tmp_path, lambda form: form.update(names=["字"]))
    with pytest.raises(UserError, match=r"no glyph for .*字.*: write it in other letters"):
        pdf_of(made)


def test_markdown_is_typeset(tmp_path):
    (tmp_path / "a.png").write_bytes((ROOT / "docs/images/lr_sweep.png").read_bytes())
    text = (
        "# Title\n\nA *b* **c** `d` [e](https://f.g) h  \ni\n\n- j\n  - k\n\n3. l\n\n> m\n\n---\n\n"
        "```\nn\n```\n\n| o | p |\n|---|---|\n| q | r |\n\n![s](a.png)\n"
    )
    made = handin("ex2-2025", tmp_path, texts_of(text))
    assert pdf_of(made).startswith(b"%PDF")
    assert made.files.keys() == {"a.png"}


def test_no_image_is_written_outside_of_the_folder_of_the_typesetter(tmp_path):
    made = handin("ex2-2025", tmp_path, texts_of("![a stranger's](../../a.png)"))
    made.read = lambda path: b""
    compose(made)
    assert "/" not in image_name("../../a.png").removeprefix("images/")
    assert made.files.keys() == {"../../a.png"}


def test_an_image_that_is_none_is_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="the PDF cannot be made"):
        pdf_of(handin("ex2-2025", tmp_path, texts_of("![x](a.png)")))


def test_numbers_in_texts_come_from_the_runs(tmp_path):
    text = "At most {{ mlp_numpy.best_test_accuracy }}, in epoch {{mlp_numpy.best_epoch}}."
    made = handin("ex2-2025", tmp_path, texts_of(text))
    figure, *_ = compose(made).answers[1].results
    (paragraph,) = figure.discussion
    (inline,) = paragraph.children
    assert inline.children[0].text == "At most 98.00\N{NO-BREAK SPACE}%, in epoch 30."
    printed = made.numbers["mlp_numpy.best_test_accuracy"]
    assert (printed.value, printed.runs) == (0.98, ("1" * 32,))


# What a process elsewhere makes of the same hand-in.
ELSEWHERE = """
import hashlib, sys
from pathlib import Path
from support.handins import handin
from eml.handin import archive
made = handin("ex3-2025", Path(sys.argv[1]))
files = archive.build(made)
data = archive.write(made, files)
print(hashlib.sha256(files["ex3.pdf"]).hexdigest(), hashlib.sha256(data).hexdigest())
"""


@pytest.mark.slow
def test_equal_data_give_equal_bytes_in_another_folder_user_locale_and_zone(tmp_path):
    digests = set()
    for folder, language, zone in (("x", "C", "UTC"), ("für ü", "C.UTF-8", "Asia/Tokyo")):
        (tmp_path / folder).mkdir()
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        variables = {"LC_ALL": language, "LANG": language, "TZ": zone, "USER": folder}
        variables |= {"HOME": str(tmp_path / folder), "PYTHONHASHSEED": str(len(folder))}
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, str(tmp_path / folder)],
            env={**os.environ, **variables, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The files of an archive of sheet 2, manifest included."""
    made = handin("ex2-2025", tmp_path_factory.mktemp("whole"))
    data = archive.write(made, archive.build(made) | {"source/.DS_Store": b"tracked by git"})
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


def test_a_file_changed_or_too_much_is_named(whole):
    lines = differences(edited(whole, FIGURE, b'<path d="M', b'<path d="L') | {"x.txt": b""})
    for path in ("x.txt", FIGURE):
        assert any(line.startswith(f"{path} is changed or new") for line in lines)


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


def test_without_a_pdf_no_exercise_has_passed(whole, tmp_path):
    left = {path: data for path, data in of_another_version(whole).items() if path != "ex2.pdf"}
    (tmp_path / "a.zip").write_bytes(zipped(left))
    done = run_here("handin", "check", str(tmp_path / "a.zip"))
    lacks = "1 difference; top sheet lacks its PDF; 2.1 lacks its PDF; 2.2 lacks its PDF\n"
    assert lacks in done.stdout


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
