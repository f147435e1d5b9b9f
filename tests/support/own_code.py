"""Networks as students write them, and the errors that students make in them."""

import re
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from support.commands import stored_runs

STUDENTS = Path(__file__).parent / "students"

_SIGMOID = "0.5 * (1 + np.tanh(0.5 * x))"
_SIGMOID_LAYER = f"""self.y = {_SIGMOID}
        return self.y

    def backward(self, grad):
        return grad * self.y * (1 - self.y)"""
_RELU_LAYER = """self.y = np.maximum(x, 0)
        return self.y

    def backward(self, grad):
        return grad * (self.y > 0)"""
_OUTPUT = "self.y = e / e.sum(axis=1, keepdims=True)\n        return self.y"
_DELTA_2 = "delta2 = (delta3 @ self.w3.T) * a2 * (1 - a2)"
_UPDATE_3 = "self.w3 = self.w3 - rate * (a2.T @ delta3)"
_UPDATE = "self.weight -= learning_rate * self.grad_weight / n"
_MOMENTUM = """self.velocity = 0.9 * getattr(self, "velocity", 0) + self.grad_weight / n
        self.weight -= learning_rate * self.velocity"""
_JACOBIAN = """grad = -target / self.y
        return self.y * (grad - (grad * self.y).sum(axis=1, keepdims=True))"""

# Name of the error: (file, right text, wrong text).
ERRORS = {
    # Of the gradient.
    "the sum in place of the mean": ("plain.py", ") / len(images)", ")"),
    "the mean twice": ("layers.py", "self.y - target", "(self.y - target) / len(target)"),
    "the mean over batch and classes": ("plain.py", "/ len(images)", "/ one_hot.size"),
    "a batch of 64 in the mean": ("layers.py", "n = len(self.x)", "n = 64"),
    "derivative of the sigmoid taken of its input": (
        "layers.py",
        f"self.y = {_SIGMOID}\n        return self.y",
        f"self.y = x\n        return {_SIGMOID}",
    ),
    "no derivative of the sigmoid": ("plain.py", " * a1 * (1 - a1)", ""),
    "derivative of a sigmoid at the output": (
        "plain.py",
        "/ len(images)",
        "/ len(images) * p * (1 - p)",
    ),
    "the gradient added": ("layers.py", _UPDATE, _UPDATE.replace("-=", "+=")),
    "the target minus the output": (
        "plain.py",
        "p - one_hot.astype(p.dtype)",
        "one_hot.astype(p.dtype) - p",
    ),
    "a transposition missing": ("layers.py", "grad @ self.weight.T", "grad @ self.weight"),
    "a gradient divided by the features": ("plain.py", "images.T @", "images.T / 784 @"),
    "the biases' mean twice": ("layers.py", "grad.sum(axis=0)", "grad.mean(axis=0)"),
    "the biases' gradient summed over the neurons": ("layers.py", "grad.sum(axis=0)", "grad.sum()"),
    "the upper layer's new weights": (
        "plain.py",
        f"{_DELTA_2}\n        {_UPDATE_3}",
        f"{_UPDATE_3}\n        {_DELTA_2}",
    ),
    # Of the update.
    "the learning rate cancels": (
        "layers.py",
        "n = len(self.x)",
        "n = len(self.x) * learning_rate",
    ),
    "a bias that is not updated": ("plain.py", "self.b2 = self.b2 - rate *", "self.b2 - rate *"),
    "a layer that is not updated": ("plain.py", "self.w1 = self.w1 - rate *", "self.w1 - rate *"),
    "momentum outside of the weights": ("layers.py", _UPDATE, _MOMENTUM),
    # Of the probabilities; the two NaN and the maximum show at large values alone.
    "softmax without the maximum": ("layers.py", "x - x.max(axis=1, keepdims=True)", "x"),
    "softmax over the batch": ("layers.py", "e.sum(axis=1", "e.sum(axis=0"),
    "NaN from a probability of 0": ("layers.py", "return self.y - target", _JACOBIAN),
    "NaN from a large sigmoid": (
        "plain.py",
        "np.where(z < 0, e, 1) / (1 + e)",
        "np.exp(z) / (1 + np.exp(z))",
    ),
    "ReLU in place of the sigmoid": ("layers.py", _SIGMOID_LAYER, _RELU_LAYER),
    "a sigmoid before the softmax": (
        "plain.py",
        "softmax(a2 @ self.w3 + self.b3)",
        "softmax(sigmoid(a2 @ self.w3 + self.b3))",
    ),
    "a bias that is not added": ("layers.py", "x @ self.weight + self.bias", "x @ self.weight"),
    "logits in place of probabilities": (
        "layers.py",
        _OUTPUT,
        _OUTPUT.replace("return self.y", "return x"),
    ),
    "probabilities of shape (10, batch)": (
        "plain.py",
        "outputs(images)[2]",
        "outputs(images)[2].T",
    ),
    # Of what the methods promise.
    "step gives the probabilities after the update": (
        "plain.py",
        "return p\n",
        "return self.forward(images)\n",
    ),
    "step gives nothing back": ("layers.py", "return probabilities", "return"),
    "forward changes its images": (
        "layers.py",
        "x = images\n",
        "x = images\n        x -= x.mean()\n",
    ),
    "forward changes a weight": (
        "plain.py",
        "return self.outputs(images)[2]",
        "self.w3 = 0.999 * self.w3\n        return self.outputs(images)[2]",
    ),
    "noise in forward": (
        "layers.py",
        "x = images",
        "x = images * (np.random.rand(*images.shape) < 0.9)",
    ),
    "initial weights of its own": (
        "plain.py",
        'self.w1, self.b1 = weights["weights_1"]',
        "self.w1, self.b1 = np.random.randn(784, 512) / 28",
    ),
    "weights gives the initial arrays": (
        "plain.py",
        'weights["biases_3"]',
        'weights["biases_3"]\n        self.weights = lambda: weights',
    ),
    "weights without a name": ("plain.py", ', "biases_3": self.b3', ""),
}

TORCH_ERRORS = {
    # In mlp().
    "softmax without the logarithm": (
        "dropout.py",
        "F.log_softmax(self.linear3",
        "F.softmax(self.linear3",
    ),
    "a layer that forward does not use": (
        "dropout.py",
        "x = torch.sigmoid(self.linear2(x))",
        "x = x[:, :128]",
    ),
    "a layer cut off from the gradient": (
        "dropout.py",
        "torch.sigmoid(self.linear1(x))",
        "torch.sigmoid(self.linear1(x)).detach()",
    ),
    "large initial weights": (
        "dropout.py",
        "self.linear3 = nn.Linear(128, 10)",
        "self.linear3 = nn.Linear(128, 10)\n        nn.init.normal_(self.linear3.weight)",
    ),
    "a network that changes its images": (
        "dropout.py",
        "x = x.flatten(1)",
        "x = x.flatten(1).sub_(0.5)",
    ),
    "the inputs of MNIST alone": ("dropout.py", "return MLP(inputs)", "return MLP(784)"),
    # In cnn().
    "log_softmax over the batch": ("dropout.py", "self.fc2(x), dim=1", "self.fc2(x), dim=0"),
    "no softmax": ("dropout.py", "F.log_softmax(self.fc2(x), dim=1)", "self.fc2(x)"),
    "dropout in eval": ("dropout.py", "self.dropout(", "F.dropout("),
    "11 classes": ("dropout.py", "nn.Linear(32, 10)", "nn.Linear(32, 11)"),
    "a batch of 64 in a view": ("dropout.py", "torch.flatten(x, 1)", "x.view(64, -1)"),
    "the class in place of a network": ("dropout.py", "return CNN()", "return CNN"),
    "a function under another name": ("dropout.py", "def cnn():", "def my_cnn():"),
}


def planted(name: str) -> str:
    """The text of a student's file with the error of that name; asserts that it fits once."""
    file, right, wrong = (ERRORS | TORCH_ERRORS)[name]
    text = (STUDENTS / file).read_text()
    assert text.count(right) == 1, f"{name}: {text.count(right)} times in {file}"
    return text.replace(right, wrong)


# At the top of a file: leaves a trace each time that the file is executed.
TRACE = 'from pathlib import Path\nwith open(Path({!r}), "a") as trace:\n    trace.write("!")\n'
# In place of plain.py's step, with something that happens in its call number `calls`. An epoch of
# the synthetic MNIST has 8 steps, and a check some 15.
STEP = """
calls = 0
right_step = MLP.step


def step(self, images, one_hot, learning_rate):
    global calls
    calls += 1
    {}
    return right_step(self, images, one_hot, learning_rate)


MLP.step = step
"""


def plain(folder: Path, in_step: str = "", before: str = "", name: str = "own.py") -> str:
    """The path of a file in a folder: plain.py with some code before it and in its step."""
    text = before + (STUDENTS / "plain.py").read_text()
    (folder / name).write_text(text + STEP.format(in_step) if in_step else text)
    return str(folder / name)


def trainings(client: MlflowClient) -> list[Run]:
    return [run for run in stored_runs(client) if "training_digest" in run.data.tags]


def files_of_traceback(complaints: str) -> list[str]:
    """The files of a traceback."""
    return re.findall(r'^  File "(.*?)", line', complaints, re.MULTILINE)
