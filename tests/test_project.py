"""What holds between the files: MLproject and recipes, dependencies, imports, `mlflow run`."""

import re
import shutil
import sys
import tomllib

import pytest
from click.testing import CliRunner

from eml import load_history
from eml.cli import cli
from eml.recipes import RECIPES
from support.commands import ROOT, call, eml_command, mlflow_command, stored_runs

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# The documents whose tables list every option of the recipes and of compare.
OPTION_TABLES = ("options", "optimizers", "cluster")


def test_mlproject_and_conda_yaml_are_generated():
    result = call([sys.executable, str(ROOT / "scripts/generate"), "--check"])
    assert result.returncode == 0, result.stderr


def test_every_command_that_is_printed_works_without_conda():
    """Without conda a bare `mlflow run` fails, and leaves a run RUNNING."""
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.py")]
    lines = [line for text in texts for line in text.read_text().splitlines()]
    commands = [line for line in lines if re.search(r"mlflow run \.[ `]", line)]
    assert len(commands) > 10
    bare = [line for line in commands if "--env-manager" not in line]
    assert all("conda" in line for line in bare), bare


def test_the_options_are_those_of_the_documents():
    text = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in OPTION_TABLES)
    cells = re.findall(r"^\| (`[a-z][^|]*)\|", text, flags=re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    runner, options = CliRunner(), set[str]()
    for command in (*RECIPES, "compare"):
        text = runner.invoke(cli, [command, "--help"]).output
        options |= set(re.findall(r"^  --(\w+)", text, re.MULTILINE))
    assert options - {"help"} == documented


def test_every_file_that_a_document_links_or_names_exists():
    for text in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("extras/*/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text.read_text()):
            assert (text.parent / link).exists(), f"{text.name}: {link}"
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 20
    for file in named:
        assert (ROOT / "src/eml" / file).exists() or (ROOT / file).exists(), file


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        ("mlp_numpy --epochs 1 --subset 100", "torch torchvision submitit"),
        pytest.param(*("compare --recipe mlp_torch", "torch submitit"), marks=pytest.mark.slow),
        ("plan mlp_numpy --epochs 1 --subset 100", "torch matplotlib submitit"),
        ("data", "torch mlflow matplotlib pandas"),
    ],
)
def test_a_command_loads_what_it_needs_alone(command, unneeded, small_data, store, environment):
    if command.startswith("compare"):
        assert call(eml_command("mlp_torch", "--epochs", "1", "--subset", "100")).returncode == 0
    arguments = [sys.executable, "-X", "importtime", "-m", "eml", *command.split()]
    result = call(arguments)
    assert result.returncode == 0, result.stderr
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "eml.cli" in loaded
    assert loaded.isdisjoint([*unneeded.split(), "mlflow.server", "matplotlib.pyplot"])


@pytest.mark.slow
def test_mlflow_run_main_trains_each_recipe_as_a_child(store, environment, tmp_path):
    """Launch options are not declared in MLproject: MLflow appends them to the command."""
    result = call(mlflow_command("main", epochs=1, subset=100, launcher="local", jobs=2))
    assert result.returncode == 0, result.stderr
    parent, *children = stored_runs(store)
    assert parent.info.status == "FINISHED"
    declared = {"device", "precision", "epochs", "subset", "seed"}
    assert parent.data.params.keys() == declared | {"launcher", "jobs"}
    assert {child.data.tags["trainings_at_once"] for child in children} == {"2"}
    children.sort(key=lambda child: list(RECIPES).index(child.data.params["recipe"]))
    recipes = ["mlp_numpy", "mlp_torch", "cifar_mlp", "cifar_cnn"]
    assert [c.data.params["recipe"] for c in children] == recipes
    assert all(c.info.status == "FINISHED" for c in children)
    assert all(c.data.params["train_images"] == "100" for c in children)


def test_mlflow_run_writes_into_its_own_run(store, environment):
    result = call(mlflow_command("mlp_torch", epochs=1, optimizer="Adadelta", subset=200))
    assert result.returncode == 0, result.stderr
    (run,) = stored_runs(store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "mlp adadelta lr=1 seed=1 mlp_torch epochs=1 subset=200"
    assert "lr=auto: PyTorch's default for adadelta, 1; none chosen for mlp" in result.stdout
    # MLflow logs what was typed, and never changes it.
    assert (run.data.params["learning_rate"], run.data.params["optimizer"]) == ("1.0", "Adadelta")
    assert set(load_history(filter="params.optimizer ILIKE 'adadelta'")["optimizer"]) == {
        "adadelta"
    }
    assert len(store.get_metric_history(run.info.run_id, "test_accuracy")) == 2


@pytest.mark.slow
def test_mlflow_run_with_a_bad_value_fails_with_its_line(store, environment):
    message = "optimizer=it's; touch x: give one of sgd"
    result = call(mlflow_command("cifar_cnn", optimizer="it's; touch x"))
    assert result.returncode != 0
    assert f"eml: {message}" in result.stderr
    (run,) = stored_runs(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith(message)


@pytest.mark.slow
def test_mlflow_run_runs_the_code_of_its_own_directory(store, environment, tmp_path, monkeypatch):
    clone = tmp_path / "second clone"
    for part in ("MLproject", "conda.yaml"):
        clone.mkdir(exist_ok=True)
        shutil.copy(ROOT / part, clone)
    shutil.copytree(ROOT / "src", clone / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    cli = clone / "src/eml/cli.py"
    cli.write_text(cli.read_text().replace("def main() -> None:", "def main():\n    sys.exit(7)"))
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.delenv("EML_TEST_SPECS")
    result = call(mlflow_command("cifar_cnn", project=clone, epochs=0))
    assert "eml:" not in result.stderr
    (run,) = stored_runs(store)
    assert run.info.status == "FAILED"
    assert "error" not in run.data.tags
