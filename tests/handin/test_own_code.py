"""A hand-in in which all trainings are the group's own code: printed, verified, not executed."""

import csv
import hashlib
import io
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pypdfium2
import pytest

from eml.data import specs
from support import synthetic
from support.commands import run_here
from support.handins import change_form, fill_in
from support.own_code import STUDENTS

# A sheet is trained first.
pytestmark = pytest.mark.slow

DRAFT = ("--epochs", "2", "--subset", "300")
NAME = "netz_ü.py"
# Leaves a trace when it is executed.
BEGINNING = """# Größe, naïve, λ
with open({!r}, "a") as trace:
    trace.write("!")
"""


@pytest.fixture(scope="module")
def sheet2(tmp_path_factory, specs_file, fresh_store) -> Iterator[Path]:
    """A folder in which `eml sheet2 --code` has made a draft on the synthetic data."""
    folder = tmp_path_factory.mktemp("sheet2")
    text = BEGINNING.format(str(folder / "trace"))
    (folder / NAME).write_text(text + (STUDENTS / "layers.py").read_text())
    (folder / "mlflow.db").write_bytes(fresh_store.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        in_folder(folder, specs_file, patch)
        assert_ends("sheet2", *DRAFT, "--code", NAME)
        mlflow.set_tracking_uri(None)
    return folder


def in_folder(folder: Path, specs_file: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(folder)
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        patch.delenv(name, raising=False)
    patch.setenv("EML_DATA_DIR", str(specs_file.parent))
    patch.setenv("EML_CHECKPOINT_DIR", str(folder / "checkpoints"))
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    for name, spec in synthetic.install(specs_file, specs.SPECS).items():
        patch.setitem(specs.SPECS, name, spec)


@pytest.fixture
def here(sheet2, specs_file, tmp_path, monkeypatch) -> Iterator[Path]:
    """A copy of that folder, the working directory, with a filled-in form and no trace."""
    shutil.copytree(sheet2, tmp_path, dirs_exist_ok=True)
    in_folder(tmp_path, specs_file, monkeypatch)
    change_form(tmp_path / "ex2/handin.toml", fill_in)
    (sheet2 / "trace").unlink(missing_ok=True)
    yield sheet2
    mlflow.set_tracking_uri(None)


def assert_ends(*arguments: str, code: int = 0) -> str:
    """What a command prints; it ends with this code."""
    done = run_here(*arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def build() -> zipfile.ZipFile:
    assert_ends("handin", "build", "--file", "ex2/handin.toml")
    return zipfile.ZipFile(io.BytesIO(Path("ex2/ex2.zip").read_bytes()))


def check(code: int) -> str:
    return assert_ends("handin", "check", "ex2/ex2.zip", code=code)


def codes(archive: zipfile.ZipFile, recipe: str) -> set[str]:
    """The SHA-256 of the code of all runs behind a part of the sheet."""
    text = archive.read(f"histories/{recipe}.csv").decode()
    return {row["code_sha256"] for row in csv.DictReader(io.StringIO(text))}


def text_of_pdf() -> str:
    """The text, without line breaks and blanks."""
    pages = pypdfium2.PdfDocument(Path("ex2/ex2.pdf"))
    return re.sub(r"\s|￾", "", "".join(p.get_textpage().get_text_bounded() for p in pages))


def own_file(archive: zipfile.ZipFile) -> str:
    (name,) = (name for name in archive.namelist() if name.startswith("own_code/"))
    return name


def test_every_run_is_own_code_and_the_zip_holds_it(here):
    archive, source = build(), Path(NAME).read_bytes()
    sha256 = hashlib.sha256(source).hexdigest()
    for recipe in ("mlp_numpy", "lr_sweep"):
        assert codes(archive, recipe) == {sha256}
    assert own_file(archive) == f"own_code/{sha256[:8]}/{NAME}"
    assert archive.read(own_file(archive)) == source
    printed = check(code=1)  # a draft
    assert "| verified |" in printed
    assert re.search(r"\| own, eml (unchanged|changed|unknown) +\|", printed)


def test_the_file_is_printed_with_what_its_check_has_found(here):
    build()
    text = text_of_pdf()
    for part in (
        f"Thegroup'sowncode:{NAME}",
        "#Größe,naïve,λ",
        "self.grad_weight=self.x.T@grad",
        "lossoftheuntrainednetwork2.3204,asineml's",
        "ofcentraldifferences",
        hashlib.sha256(Path(NAME).read_bytes()).hexdigest()[:8],
    ):
        assert part in text.replace("’", "'"), part  # noqa: RUF001
    assert "minusthatofeml" not in text


def test_eml_s_trainings_do_not_displace_it_but_are_compared(here):
    assert_ends("mlp_numpy", *DRAFT)
    assert_ends("lr_sweep", *DRAFT)
    runs = mlflow.search_runs(["0"], "params.learning_rate = '0.1' and tags.recipe = 'mlp_numpy'")
    finals = dict(zip(runs["params.code_sha256"], runs["metrics.final_test_accuracy"], strict=True))
    (own,) = (final for sha256, final in finals.items() if sha256)
    (run_id,) = runs[runs["params.code_sha256"] == ""]["run_id"]
    mlflow.MlflowClient().log_metric(run_id, "final_test_accuracy", 0.125, 9 * 10**12, 99)
    archive = build()
    assert "" not in codes(archive, "mlp_numpy") | codes(archive, "lr_sweep")
    text = text_of_pdf()
    difference = re.escape(f"{100 * (own - 0.125):+.2f}")
    minus = "finalaccuracyminusthatofeml.snetwork"
    assert re.search(rf"mlp_numpy:{minus}:{difference}\(1of1train", text)
    assert re.search(rf"lr_sweep:{minus}:.*{difference}\(6of6train", text)
    assert "| verified |" in check(code=1)
    assert_ends("sheet2", *DRAFT)
    assert "" not in codes(build(), "mlp_numpy")
    change_form(
        Path("ex2/handin.toml"),
        lambda form: form["exercise"]["2.2"]["mlp_numpy"].update(runs=[run_id]),
    )
    archive = build()
    assert codes(archive, "mlp_numpy") == {""}
    assert "" not in codes(archive, "lr_sweep")


@pytest.mark.parametrize("how", ["another byte", "another byte and its SHA-256", "left out"])
def test_a_file_in_the_zip_that_is_not_the_trained_one_is_reported(how, here):
    archive = build()
    name = own_file(archive)
    files = {path: archive.read(path) for path in archive.namelist()}
    before = files.pop(name)
    if how != "left out":
        files[name] = before + b"#"
    if how == "another byte and its SHA-256":
        old, new = (hashlib.sha256(data).hexdigest() for data in (before, before + b"#"))
        files["manifest.json"] = files["manifest.json"].replace(old.encode(), new.encode())
    with zipfile.ZipFile("ex2/ex2.zip", "w") as changed:
        for path, data in files.items():
            changed.writestr(path, data)
    printed = check(code=1)
    assert re.search(r"\| \d+ differ +\|", printed)
    assert f"{name} is not the code that was trained" in printed


def test_no_command_on_a_handin_executes_it(here):
    trace = here / "trace"
    shutil.rmtree("ex2")
    assert_ends("lr_sweep", "--code", NAME, "--check", "only")
    assert trace.exists()
    trace.unlink()
    assert_ends("handin", "init", "ex2-2025", "--file", "ex2/handin.toml")
    build()
    assert_ends("handin", "check", "--file", "ex2/handin.toml", code=1)
    assert_ends("handin", "numbers", "--file", "ex2/handin.toml")
    check(code=1)
    assert_ends("handin", "check", "ex2/ex2.zip", "--stores", str(here / "mlflow.db"), code=1)
    assert not trace.exists()
