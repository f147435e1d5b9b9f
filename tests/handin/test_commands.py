"""The commands on a real store: `sheet2` from an empty one, then form, build and check."""

import io
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import mlflow
import pytest
from filelock import FileLock

from eml.handin.evidence import choose
from eml.handin.sheet import load_sheet
from support.commands import ROOT, eml_command, run_here
from support.handins import change_form, fill_in

MLP, SWEEP = load_sheet("ex2-2025").trainings


# A whole sheet is trained first.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sheet2(tmp_path_factory, specs_file, testrun_uid) -> tuple[Path, str]:
    """A folder in which `eml sheet2` has trained on the synthetic data, and what it printed.

    There is one for all workers of pytest.
    """
    folder = tmp_path_factory.getbasetemp().parent / f"sheet2-{testrun_uid}"
    printed = folder.with_suffix(".txt")
    with FileLock(folder.with_suffix(".lock")):
        if not printed.exists():
            folder.mkdir()
            printed.write_text(_train_in(folder, specs_file))
    return folder, printed.read_text()


def _train_in(folder: Path, specs_file: Path) -> str:
    paths = [ROOT / "tests/support/site", ROOT / "tests", ROOT / "src"]
    variables = {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "EML_TEST_SPECS": str(specs_file),
        "EML_DATA_DIR": str(specs_file.parent),
        "EML_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }
    done = subprocess.run(
        eml_command("sheet2"),
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def here(sheet2, small_data, environment, tmp_path, monkeypatch):
    """A copy of that store in the working directory, with a filled-in form; its client."""
    folder, _ = sheet2
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("EML_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    mlflow.set_tracking_uri(uri)
    change(tmp_path, fill_in)
    yield mlflow.MlflowClient(uri)
    mlflow.set_tracking_uri(None)


def change(folder: Path, how) -> None:
    change_form(folder / "ex2" / "handin.toml", how)


def eml(*arguments: str, code: int = 0) -> str:
    """What a command prints; it ends with this code."""
    done = run_here(*arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def handin(command: str, *arguments: str, code: int = 0) -> str:
    return eml("handin", command, *arguments, "--file", "ex2/handin.toml", code=code)


def runs_of(recipe: str, client) -> list[str]:
    return [r.info.run_id for r in client.search_runs(["0"], f"tags.recipe = '{recipe}'")]


def test_sheet2_says_its_plan_trains_and_makes_the_handin(sheet2):
    folder, printed = sheet2
    plan, _, trained = printed.partition("sheet2: about ")
    assert "mlp sgd lr=0.001 seed=1 mlp_numpy epochs=30: 30 epochs to do" in plan
    assert "epoch 30/30" not in plan
    assert trained.count("epoch 30/30") == 6
    assert "rules of the sheet that are not met yet: 10" in trained
    assert {path.name for path in (folder / "ex2").iterdir()} == {
        "handin.toml",
        "ex2.pdf",
        "ex2.zip",
    }


def test_the_command_that_sheet2_prints_works_as_printed(sheet2, here):
    Path("ada").mkdir()
    shutil.copy("mlflow.db", "ada/mlflow.db")
    for run_id in runs_of("mlp_numpy", here):
        here.delete_run(run_id)
    printed = sheet2[1] + eml("sheet2", "--folder", "a b", "--stores", "ada")
    filled, blank = re.findall("`eml (handin check.*?)`", printed)
    assert "no finished run of mlp_numpy" in eml(*shlex.split(filled), code=1)
    assert "rules that are not met: 10 of 26" in eml(*shlex.split(blank), code=1)


def test_check_refuses_what_build_refuses(here):
    change(Path(), lambda form: form["exercise"]["2.1"].update(review="字"))
    *_, check = handin("check", code=2).splitlines()
    *_, build = handin("build", code=2).splitlines()
    assert check == build


def test_sheet2_again_trains_nothing_and_keeps_the_form(here, tmp_path):
    before = (tmp_path / "ex2/handin.toml").read_text()
    printed = eml("sheet2")
    assert "mlp_numpy: already done, run" in printed
    assert "nothing is left to train" in printed
    assert "not met" not in printed
    assert (tmp_path / "ex2/handin.toml").read_text() == before
    Path("ex2/handin.toml").unlink()
    eml("handin", "init", "ex2-2024", "--file", "ex2/handin.toml")
    assert "is the form of ex2-2024: give another folder" in eml("sheet2", code=2)


def test_a_whole_handin_is_built_checked_and_verified(here, tmp_path):
    assert "all 26 rules are met" in handin("check")
    typed = "98.31 % in epoch 29"  # no warning
    change(tmp_path, lambda form: form["exercise"]["2.1"].update(review=typed))
    assert handin("build") == "made ex2/ex2.pdf and ex2/ex2.zip\n"
    for stores in ([], ["--stores", "mlflow.db"]):
        *_, row = eml("handin", "check", "ex2/ex2.zip", *stores).splitlines()
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        code = cells.pop(5)  # of this checkout, which may have no remote
        assert cells == ["ex2.zip", "ex2", "Ada Lovelace, Alan Turing", "met", "", "", "verified"]
        assert code in ("unchanged", "changed", "unknown")
    with zipfile.ZipFile("ex2/ex2.zip") as archive:
        names = set(archive.namelist())
        assert archive.read("ex2.pdf") == Path("ex2/ex2.pdf").read_bytes()
        assert archive.read("source/src/eml/cli.py")
    assert {
        "source/conda.yaml",
        "manifest.json",
        "histories/lr_sweep.csv",
        "source/MLproject",
        "source/packages.txt",
    } <= names


def test_the_run_that_mlflow_run_has_made_keeps_the_pdf(here, monkeypatch):
    run_id = here.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    handin("build")
    assert [file.path for file in here.list_artifacts(run_id)] == ["ex2.pdf", "packages.txt"]


def test_runs_of_two_stores_make_one_handin(here, tmp_path):
    """The group shares the work: one has mlp_numpy, this one has lr_sweep."""
    (tmp_path / "ada").mkdir()
    shutil.copy("mlflow.db", "ada/mlflow.db")
    (theirs,) = [run.run_id for run in choose(MLP)]
    here.delete_run(theirs)
    assert "no finished run of mlp_numpy" in handin("build", code=2)
    assert f"mlp_numpy: already done, run {theirs} of ada\n" in eml("sheet2", "--stores", "ada")
    before = Path("ada/mlflow.db").read_bytes()
    change(tmp_path, lambda form: form.update(stores=["../ada/mlflow.db"]))
    assert "nothing is left to train" in eml("sheet2")
    assert "all 26 rules are met" in handin("check")
    handin("build")
    printed = eml("handin", "check", "ex2/ex2.zip", "--stores", "mlflow.db", code=1)
    assert "warning: not compared with the stores: mlp_numpy: no training selected" in printed
    assert "| verified |" in eml("handin", "check", "ex2/ex2.zip", "--stores", "ada")
    with zipfile.ZipFile("ex2/ex2.zip") as archive:
        for recipe in ("mlp_numpy", "lr_sweep"):  # the sweep has reused the training
            rows = archive.read(f"histories/{recipe}.csv").decode().splitlines()
            assert {row[:32] for row in rows if ",../ada/mlflow.db," in row} == {theirs}
    assert Path("ada/mlflow.db").read_bytes() == before
    change(tmp_path, lambda form: form.update(stores=["http://ada:secret@127.0.0.1:9"]))
    assert "a store with a password" in handin("build", code=2)


def test_a_broken_rule_is_code_1(here):
    change(Path(), lambda form: form.update(names=[]))
    assert "failed  top sheet: names: write each name" in handin("check", code=1)
    assert "rules of the sheet that are not met yet: 1" in handin("build")
    Path("no.zip").write_bytes(b"no")
    printed = eml("handin", "check", "ex2/ex2.zip", "no.zip", code=1)
    assert "| 1 broken |" in printed
    assert "| not verified |" in printed
    assert "ex2.zip: failed  top sheet: names" in printed
    assert "no.zip: this is no readable zip" in printed


def test_every_listed_number_can_be_written(here):
    names = re.findall(r"^\{\{(.+?)\}\}  ", handin("numbers"), re.MULTILINE)
    assert len(names) > 100

    def write_all(form):
        plot = form["exercise"]["2.2"]["mlp_numpy"]["loss_over_epochs"]
        plot["discussion"] = "\n".join(f"- {{{{{name}}}}}" for name in names)

    change(Path(), write_all)
    handin("build")
    eml("handin", "check", "ex2/ex2.zip")


def test_check_names_what_the_stores_have_otherwise(here):
    handin("build")
    (run_id,) = [r.run_id for r in choose(MLP)]
    other = next(id_ for id_ in runs_of("mlp_numpy", here) if id_ != run_id)
    here.log_metric(run_id, "test_accuracy", 0.123, step=30, timestamp=9 * 10**12)
    here.delete_run(other)
    eml("handin", "check", "ex2/ex2.zip")
    printed = eml("handin", "check", "ex2/ex2.zip", "--stores", "mlflow.db", code=1)
    assert re.search(
        rf"mlp_numpy.final_test_accuracy in .+: the stores give 12.30.%, of runs {run_id}",
        printed,
    )
    assert re.search(r"lr_sweep[\d.]+n in manifest.json: the stores give no such number", printed)


def test_a_later_small_try_is_not_taken(here):
    before = [choose(MLP), choose(SWEEP)]
    eml("mlp_numpy", "--epochs", "2")
    eml("lr_sweep", "--subset", "100", "--epochs", "1")
    eml("mlp_numpy", "--lr", "0.5")  # whole, but not with the template's rate
    assert [choose(MLP), choose(SWEEP)] == before


def test_of_two_that_both_meet_the_sheet_the_newest_is_taken(here):
    def rates() -> set[str]:
        return set(re.findall(r"\{\{lr_sweep\.([\d.]+)\.n\}\}", handin("numbers")))

    (before,) = runs_of("lr_sweep", here)
    eml("lr_sweep", "--lrs", "1,0.5,0.1,0.05,0.02")
    assert "0.02" in rates()
    change(Path(), lambda form: form["exercise"]["2.2"]["lr_sweep"].update(runs=[before]))
    assert "0.02" not in rates()


def test_other_seeds_join_and_of_a_seed_the_newest_counts(here):
    (first,) = choose(MLP)
    for _ in range(2):
        eml("mlp_numpy", "--seed", "2")
        assert "{{mlp_numpy.n}}  2" in handin("numbers")
    newest = runs_of("mlp_numpy", here)[0]
    assert {run.run_id for run in choose(MLP)} == {first.run_id, newest}


@pytest.mark.slow
def test_a_sweep_that_reuses_another_holds_it(here):
    eml("lr_sweep", "--seeds", "1,2")
    assert len(choose(SWEEP)) == 12


def test_a_store_that_lacks_a_recipe_and_no_store(here, tmp_path):
    for run_id in runs_of("lr_sweep", here):
        here.delete_run(run_id)
    Path("ex2/ex2.pdf").unlink()
    lacks = "no finished run of lr_sweep in sqlite:"
    assert lacks in handin("build", code=2)
    assert lacks in handin("check", code=1)
    assert not Path("ex2/ex2.pdf").exists()
    assert not list(Path("ex2").glob(".*"))
    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    assert "there is no store" in handin("build", code=2)
    assert not Path("elsewhere.db").exists()


def test_paths_of_texts_stay_below_the_form(here):
    for path in ("../secret.md", "/etc/secret.md"):
        change(Path(), lambda form, p=path: form["exercise"]["2.1"].update(review=p))
        assert "give a path below the folder of the form" in handin("build", code=2)
    change(Path(), lambda form: form["exercise"]["2.1"].update(review="review.md"))
    assert "ex2/review.md: No such file" in handin("build", code=2)
    Path("ex2/review.md").write_text("# Review\n\n![a curve](fig.png)")
    assert "ex2/fig.png: No such file" in handin("build", code=2)
    shutil.copy(ROOT / "docs/images/lr_sweep.png", "ex2/fig.png")
    handin("build")
    eml("handin", "check", "ex2/ex2.zip")
    names = zipfile.ZipFile(io.BytesIO(Path("ex2/ex2.zip").read_bytes())).namelist()
    assert {"form/review.md", "form/fig.png"} <= set(names)
