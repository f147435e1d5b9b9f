"""The check of a user's own code: right networks pass, and each planted error has its own line."""

import re

import numpy as np
import pytest

from eml.errors import UserError
from eml.models import own_check
from eml.training.loop import TrainingLoop, load_for
from support.commands import config_of
from support.own_code import ERRORS, STUDENTS, TORCH_ERRORS, planted

ALL = "biases_3, weights_2, biases_2, weights_1, biases_1"  # the others if weights_3 is wrong
SIGMOID = "layers above are right.*sigmoid"
GIVEN = r"weights\(\) of a new MLP must be what it was given: weights_1 \(784, 512\), biases_1"

# What has to be in the line of each error, a regular expression.
NUMPY = {
    "the sum in place of the mean": f"weights_3 is 64 times .* sum .* mean; wrong too: {ALL}$",
    "the mean twice": f"weights_3 is 0.0156\\d* times .*batch twice; wrong too: {ALL}$",
    "the mean over batch and classes": f"weights_3 is 0.1 times .* classes.*; wrong too: {ALL}$",
    "a batch of 64 in the mean": "48 images: .* weights_3 is 0.75 times .* divided by 64 in place",
    "derivative of the sigmoid taken of its input": f"weights_2 is wrong .*{SIGMOID}",
    "no derivative of the sigmoid": f"weights_1 is wrong .*{SIGMOID}.*wrong too: biases_1$",
    "derivative of a sigmoid at the output": f"weights_3 is wrong .*; wrong too: {ALL}$",
    "the gradient added": "weights_3 is -1 times .* sign .*; wrong too: weights_2, weights_1$",
    "the target minus the output": f"weights_3 is -1 times .* sign .*; wrong too: {ALL}$",
    "a transposition missing": "line 18: ValueError: matmul: .* 128 is different from 10",
    "a gradient divided by the features": r"weights_1 is 0.001276 times the right one$",
    "the biases' mean twice": "biases_3 is 0.0156.*batch twice; wrong too: biases_2, biases_1$",
    "the biases' gradient summed over the neurons": "biases_3 is wrong .*: biases_2, biases_1$",
    "the upper layer's new weights": "weights_2 is made with weights .* already changed",
    "the learning rate cancels": "right at learning_rate=1, but not in proportion at 0.0001$",
    "a bias that is not updated": "biases_2 is 0: the step does not change it$",
    "a layer that is not updated": "weights_1 is 0: the step does not change it$",
    "momentum outside of the weights": r"goes on differently: .* depend on weights\(\) alone",
    "softmax without the maximum": "forward: overflow at logits of 1000",
    "softmax over the batch": "forward: rows do not sum to 1, but columns do: take axis=1$",
    "NaN from a probability of 0": "step: NaN at logits of 1000",
    "NaN from a large sigmoid": "forward: overflow at sigmoids of 1000",
    "ReLU in place of the sigmoid": r"forward: loss of the untrained network 2\.\d+, but 2\.3204",
    "a sigmoid before the softmax": r"forward: loss of the untrained network 2\.\d+, but 2\.3204",
    "a bias that is not added": r"forward: loss of the untrained network 2\.\d+, but 2\.3204",
    "logits in place of probabilities": "forward: rows do not sum to 1$",
    "probabilities of shape (10, batch)": r"shape \(10, 64\), not \(64, 10\)$",
    "step gives the probabilities after the update": "step gives other probabilities than forward",
    "step gives nothing back": r"probabilities of shape \(\), not \(64, 10\)$",
    "forward changes its images": "forward changes its images",
    "forward changes a weight": "forward changes .* the weights",
    "noise in forward": "forward: two calls give different results",
    "initial weights of its own": GIVEN,
    "weights gives the initial arrays": f"weights_3 is 0: .*; wrong too: {ALL}$",
    "weights without a name": GIVEN,
}
# With the recipe whose network has the error.
TORCH = {
    "softmax without the logarithm": ("mlp_torch", r"exp\(output\) do not sum to 1: .*LogSoftmax"),
    "a layer that forward does not use": ("mlp_torch", r"linear2\.weight gets no finite gradient"),
    "a layer cut off from the gradient": ("mlp_torch", r"linear1\.weight gets no finite gradient"),
    # On MNIST it would get eml's initial weights.
    "large initial weights": ("cifar_mlp", r"untrained network \d\.\d\d, not \(2\.1, 2\.7\)"),
    "a network that changes its images": (
        "mlp_torch",
        "two calls in eval.. give different results",
    ),
    "the inputs of MNIST alone": ("cifar_mlp", r"line 17: RuntimeError: .*64x3072 and 784x512"),
    "log_softmax over the batch": ("cifar_cnn", r"do not sum to 1: end with LogSoftmax\(dim=1\)"),
    "no softmax": ("cifar_cnn", r"exp\(output\) do not sum to 1: end with LogSoftmax\(dim=1\)"),
    "dropout in eval": ("cifar_cnn", r"two calls in eval\(\) give different results"),
    "11 classes": ("cifar_cnn", r"output has the shapes \[\(64, 11\), "),
    "a batch of 64 in a view": ("cifar_cnn", r"line 34: RuntimeError: shape '\[64, -1\]'"),
    "the class in place of a network": ("cifar_cnn", r"cnn\(\) gives a type, not an nn\.Module"),
    "a function under another name": ("cifar_cnn", "has no function cnn$"),
}


def own(recipe, path, **options):
    """The Config of a training of the file on the CPU."""
    on = {} if recipe == "mlp_numpy" else {"device": "cpu"}
    return config_of(recipe, code=str(path), **on, **options)


def refusal(recipe, text, tmp_path) -> str:
    """The line with which the check refuses a file with this text."""
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        own_check.check(str(path), own(recipe, path))
    assert str(refused.value).isprintable()
    return str(refused.value)


def test_every_error_is_tried():
    assert NUMPY.keys() == ERRORS.keys()
    assert TORCH.keys() == TORCH_ERRORS.keys()


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_in_numpy_is_named(name, tmp_path):
    line = refusal("mlp_numpy", planted(name), tmp_path)
    assert line.startswith("own.py")
    assert re.search(NUMPY[name], line), line


@pytest.mark.parametrize("name", TORCH_ERRORS)
def test_an_error_in_pytorch_is_named(name, tmp_path):
    recipe, expected = TORCH[name]
    line = refusal(recipe, planted(name), tmp_path)
    assert line.startswith("own.py")
    assert re.search(expected, line), line


ANOTHER = r"not compared: another architecture \({} parameters, eml's 2,453,962\)"
SAME = "log-probabilities differ by up to (0|[0-9]e-0[6-9]) from eml's network"


@pytest.mark.parametrize(
    ("file", "recipe", "found"),
    [
        ("layers.py", "mlp_numpy", "gradients within [0-9.]+e-1[0-9] of eml's"),
        ("plain.py", "mlp_numpy", "and [0-9.]+e-0[6-9] of central differences"),
        ("dropout.py", "mlp_torch", SAME),
        ("dropout.py", "cifar_mlp", SAME),
        ("dropout.py", "cifar_cnn", ANOTHER.format("26,842")),
        ("batchnorm.py", "cifar_cnn", ANOTHER.format("9,290")),
    ],
)
def test_a_right_network_passes_and_what_is_found_is_printed_once(file, recipe, found, capsys):
    path = STUDENTS / file
    result = own_check.check(str(path), own(recipe, path))
    assert re.search(found, result), result
    assert re.search(r"loss of the untrained network 2\.\d\d", result)
    capsys.readouterr()
    assert own_check.check(str(path), own(recipe, path)) == result
    assert capsys.readouterr().out == ""


def test_another_file_under_the_same_name_is_checked_again(tmp_path):
    path = tmp_path / "own.py"
    path.write_bytes((STUDENTS / "plain.py").read_bytes())
    own_check.check(str(path), own("mlp_numpy", path))
    assert "64 times" in refusal("mlp_numpy", planted("the sum in place of the mean"), tmp_path)


SEQUENTIAL = """from torch import nn
def mlp(inputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 512), nn.Sigmoid(), nn.Linear(512, 128),
        nn.Sigmoid(), nn.Linear({}, 10), nn.LogSoftmax(dim=1))
"""


def test_sizes_that_do_not_fit_are_blamed_on_the_file_although_pytorch_finds_them(tmp_path):
    """No line of the file is under way when they are found."""
    line = refusal("mlp_torch", SEQUENTIAL.format(100), tmp_path)
    assert re.match("own.py: RuntimeError: .*64x128 and 100x10", line)
    path = tmp_path / "own.py"
    path.write_text(SEQUENTIAL.format(128))
    assert re.search(SAME, own_check.check(str(path), own("mlp_torch", path)))


def test_a_network_of_eml_s_shapes_is_compared_whatever_its_initial_weights(tmp_path):
    path = tmp_path / "own.py"
    make = "import torch\nfrom eml.models import torch_networks as them\n"
    path.write_text(f"{make}def cnn():\n    torch.rand(1)\n    return them.cnn()\n")
    assert re.search(SAME, own_check.check(str(path), own("cifar_cnn", path)))


@pytest.mark.parametrize("file", ["dropout.py", "batchnorm.py"])
def test_a_training_after_a_check_equals_one_without(file, small_data, tmp_path):
    path = tmp_path / "own.py"
    path.write_bytes((STUDENTS / file).read_bytes())
    config = own("cifar_cnn", path, epochs=1, subset=100)

    def trained():
        loop = TrainingLoop(config, load_for(config), code=str(path))
        *_, last = loop
        return [last.train_loss, last.test_loss], loop.learner.state()

    losses, expected = trained()
    own_check.check(str(path), config)
    again, state = trained()
    assert again == losses
    for name, array in state.items():
        np.testing.assert_array_equal(array, expected[name])
