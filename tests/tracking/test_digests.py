"""The digest of a training: what changes it, and what does not."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eml.data import specs
from eml.models.optimizers import OPTIMIZERS
from eml.tracking.digests import training_digest
from support.commands import ROOT, config_of

PROGRAM = (
    "from eml.recipes import mlp_numpy; from eml.tracking.digests import training_digest;"
    "print(training_digest(mlp_numpy.configs(mlp_numpy.Options())[0]))"
)


def digest_of(source, python: str = sys.executable) -> str:
    """The digest of the same training by the code in the folder `source`."""
    environment = os.environ | {"PYTHONPATH": str(source)}
    command = [python, "-c", PROGRAM]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_everything_that_decides_a_training_changes_its_digest(monkeypatch):
    config = config_of("mlp_numpy")
    digest = training_digest(config)
    assert training_digest(config) == digest
    for change in ({"seed": 2}, {"epochs": 3}, {"dtype": "float64"}, {"subset": 100}):
        assert training_digest(dataclasses.replace(config, **change)) != digest
    spec, row = specs.SPECS["mnist"], OPTIMIZERS["sgd"]
    other_data = [spec.sha256 | {key: "0" * 64} for key in spec.sha256]
    for table, name, changed in (
        *((specs.SPECS, "mnist", dataclasses.replace(spec, sha256=other)) for other in other_data),
        (specs.SPECS, "mnist", dataclasses.replace(spec, scaling=specs.Scaling(0.13, 0.3081))),
        (OPTIMIZERS, "sgd", row._replace(made_by="torch.optim.ASGD")),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(table, name, changed)
            assert training_digest(config) != digest
    monkeypatch.setitem(OPTIMIZERS, "sgd", row._replace(learning_rate={"mlp": 7.0}))
    assert training_digest(config) == digest  # the Config has the rate that counts


@pytest.fixture(scope="module")
def digest():
    """That of the code as it is."""
    return digest_of(ROOT / "src")


@pytest.fixture
def source(tmp_path):
    """A copy of the code."""
    return shutil.copytree(
        ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__")
    )


def edit(source, file: str, before: str, after: str) -> None:
    path = source / "eml" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, after), encoding="utf-8")


def test_comments_docstrings_formatting_and_neighbours_leave_the_digest(source, digest):
    linear = '"""outputs = inputs @ weights + bias."""'
    edit(source, "models/numpy_mlp.py", linear, '"""The sum of products."""\n')
    edit(source, "models/numpy_mlp.py", "outputs += self.bias  #", "outputs += (\nself.bias)  #")
    edit(source, "models/torch_networks.py", "class LogSoftmax", "# A comment.\nclass LogSoftmax")
    edit(source, "models/gradient_check.py", "TOLERANCE = 1e-6", "TOLERANCE = 1e-5")
    (source / "eml/models/another.py").write_text("")
    assert digest_of(source) == digest


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("data/datasets.py", "subset // 5", "subset // 4"),
        ("models/learner.py", "hits / examples", "hits / 2"),
        ("models/numpy_mlp.py", "inputs += 0.5  #", "inputs += 0.25  #"),
        ("models/torch_learner.py", "loss.backward()", "loss.backward(None)"),
        ("models/torch_networks.py", "stride=2", "stride=1"),
        ("seeds.py", "[seed, 0, 1]", "[seed, 1, 0]"),
        ("training/loop.py", "self.epoch + 1, self", "self.epoch, self"),
    ],
)
def test_an_edit_of_the_code_that_trains_changes_the_digest(file, before, after, source, digest):
    edit(source, file, before, after)
    assert digest_of(source) != digest


def test_every_version_of_python_computes_the_same_digest(digest):
    """Otherwise a laptop and a cluster would train each other's trainings again."""
    names = [f"python3.{minor}" for minor in range(11, 20) if minor != sys.version_info.minor]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    path = os.pathsep.join([*map(str, pyenv.glob("versions/*/bin")), os.environ["PATH"]])
    commands = [command for name in names if (command := shutil.which(name, path=path))]
    others = [c for c in commands if not subprocess.run([c, "-V"], capture_output=True).returncode]
    if not others:
        pytest.skip("there is one supported version of Python here")
    assert {digest_of(ROOT / "src", python) for python in others} == {digest}
