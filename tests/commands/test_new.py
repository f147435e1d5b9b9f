"""`eml new`: skeletons that train without eml once they are filled in."""

import ast
import re
import runpy
import struct
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

SKELETONS = {name: files("eml.commands") / f"own_{name}.txt" for name in ("numpy", "torch")}
# eml cannot be imported, as in the course's environment.
WITHOUT_EML = """\
import runpy, sys
sys.modules["eml"] = None
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
# Solutions by the line of the skeleton that they replace.
FORWARD = """\
        p = self.parameters
        assert np.allclose([images.min(), images.max()], [-0.4242, 2.8215], atol=1e-4)  # scaled
        self.hidden_1 = 1 / (1 + np.exp(-images @ p["weights_1"] - p["biases_1"]))
        self.hidden_2 = 1 / (1 + np.exp(-self.hidden_1 @ p["weights_2"] - p["biases_2"]))
        logits = self.hidden_2 @ p["weights_3"] + p["biases_3"]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)
"""
STEP = """\
        probabilities = self.forward(images)
        p, h1, h2 = self.parameters, self.hidden_1, self.hidden_2
        delta_3 = (probabilities - one_hot) / len(images)
        delta_2 = delta_3 @ p["weights_3"].T * h2 * (1 - h2)
        delta_1 = delta_2 @ p["weights_2"].T * h1 * (1 - h1)
        for layer, inputs, delta in ((1, images, delta_1), (2, h1, delta_2), (3, h2, delta_3)):
            p[f"weights_{layer}"] -= learning_rate * inputs.T @ delta
            p[f"biases_{layer}"] -= learning_rate * delta.sum(axis=0)
        return probabilities
"""
MLP = """\
    nn, sigmoid = torch.nn, torch.nn.Sigmoid()
    layers = nn.Linear(inputs, 512), sigmoid, nn.Linear(512, 128), sigmoid, nn.Linear(128, 10)
    return nn.Sequential(nn.Flatten(), *layers, nn.LogSoftmax(dim=1))
"""
SOLUTIONS = {"forward": FORWARD, "step": STEP, "mlp": MLP}


def filled(framework: str, *names: str) -> str:
    """The skeleton with the solutions of these functions."""
    text = SKELETONS[framework].read_text()
    for name in names:
        text, replaced = re.subn(
            rf' *raise NotImplementedError\("not implemented yet: {name}"\)\n',
            SOLUTIONS[name],
            text,
        )
        assert replaced == 1
    return text


def run_without_eml(text: str, folder, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "own.py").write_text(text)
    command = [sys.executable, "-I", "-c", WITHOUT_EML, "own.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def mnist(tmp_path):
    """A folder with torchvision's files of MNIST: a black and white pattern per class, in noise."""
    raw, rng = tmp_path / "data/MNIST/raw", np.random.default_rng(1)
    raw.mkdir(parents=True)
    patterns = rng.integers(0, 2, (10, 28, 28)) * 200
    for split, size in (("train", 4000), ("t10k", 500)):
        labels = rng.integers(0, 10, size).astype(np.uint8)
        images = (patterns[labels] + rng.integers(0, 56, (size, 28, 28))).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">{1 + array.ndim}i", 0x800 + array.ndim, *array.shape)
            (raw / f"{split}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return tmp_path


@pytest.mark.parametrize("framework", SKELETONS)
def test_the_skeleton_is_written_once_and_what_to_do_next_is_printed(
    framework, eml, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file, name = tmp_path / f"own_{framework}.py", f"own_{framework}.py"
    result = eml("new", framework)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"`eml mlp_{framework} --code {name} --check only`" in result.stdout
    assert f"`python {name}`" in result.stdout
    assert file.read_bytes() == SKELETONS[framework].read_bytes()
    file.write_text("mine")
    again = eml("new", framework)
    message = f"eml: {name} exists and stays as it is: give another --file\n"
    assert (again.returncode, again.stdout, again.stderr) == (2, "", message)
    assert file.read_text() == "mine"
    assert "--code 'my own.py'" in eml("new", framework, "--file", "my own.py").stdout
    assert (tmp_path / "my own.py").read_bytes() == SKELETONS[framework].read_bytes()


def test_a_folder_that_does_not_exist_is_one_line(eml, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = eml("new", "torch", "--file", "none/own.py")
    message = "eml: none/own.py cannot be written: No such file or directory\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message)


def test_new_loads_no_library_of_the_trainings(tmp_path):
    code = "import sys; from eml.cli import cli; cli(['new', 'torch'], standalone_mode=False);"
    code += "print({'mlflow', 'torch', 'numpy'} & {*sys.modules})"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("framework", SKELETONS)
def test_a_skeleton_is_short_python_3_10_without_eml(framework):
    text = SKELETONS[framework].read_text()
    lines = text.splitlines()
    assert len(lines) <= 85
    assert max(map(len, lines)) <= 100
    imports = [
        node
        for node in ast.walk(ast.parse(text, feature_version=(3, 10)))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    modules = [getattr(i, "module", None) or alias.name for i in imports for alias in i.names]
    imported = {module.partition(".")[0] for module in modules}
    assert imported <= {"math", "sys", "time", "numpy", "torch", "torchvision"}


def test_the_skeleton_of_numpy_keeps_the_weights_apart_from_those_that_it_gives():
    initial = {"weights_1": np.ones((2, 3)), "biases_1": np.ones(3)}
    mlp = runpy.run_path(str(SKELETONS["numpy"]))["MLP"](initial)
    first = mlp.weights()
    for parameter in mlp.parameters.values():
        parameter += 1
    for arrays, value in ((initial, 1), (first, 1), (mlp.weights(), 2)):
        assert arrays.keys() == initial.keys()
        assert all(np.all(array == value) for array in arrays.values())


@pytest.mark.parametrize(
    ("framework", "arguments", "missing"), [("numpy", [], "step"), ("torch", ["cnn"], "cnn")]
)
def test_a_skeleton_says_what_is_not_implemented_yet(framework, arguments, missing, mnist):
    text = SKELETONS[framework].read_text()
    result = run_without_eml(text, mnist, *arguments)
    error = f"not implemented yet: {missing}"
    assert result.stderr.endswith(f"NotImplementedError: {error}\n")
    line = next(n for n, line in enumerate(text.splitlines(), start=1) if error in line)
    assert f'own.py", line {line}, in {missing}\n' in result.stderr


@pytest.mark.parametrize(
    ("framework", "names"), [("numpy", ["forward", "step"]), ("torch", ["mlp"])]
)
def test_a_skeleton_that_is_filled_in_trains_without_eml(framework, names, mnist):
    result = run_without_eml(filled(framework, *names), mnist)
    assert result.returncode == 0, result.stderr
    line = r"test accuracy ([01]\.\d{4}) after one epoch of \d+\.\d s\n"
    accuracy = re.fullmatch(line, result.stdout)
    assert accuracy, result.stdout
    assert float(accuracy[1]) > 0.9  # by chance 0.1
