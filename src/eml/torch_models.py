"""The MLP and the CNN of the sheets in PyTorch, and the learner that trains them."""

import math
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from eml.config import OPTIMIZERS, Config
from eml.data import SPECS, Dataset
from eml.learner import EVALUATION_BATCH, Score
from eml.numpy_mlp import initial_weights, mlp_sizes
from eml.provenance import cpu_name

OPTIMIZER = "optimizer."  # what names in a training state begin with that are not weights
ACTIVATION_LAYERS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}


def mlp(inputs: int, activation: str) -> nn.Module:
    """The MLP inputs-512-128-10 of sheet 2: images of any shape in, log-probabilities out."""
    layer = ACTIVATION_LAYERS[activation]
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            linear1=nn.Linear(inputs, 512),
            activation1=layer(),
            linear2=nn.Linear(512, 128),
            activation2=layer(),
            linear3=nn.Linear(128, 10),
            log_softmax=nn.LogSoftmax(dim=1),
        )
    )


def cnn() -> nn.Module:
    """The CNN of sheet 3, task 3.3: (batch, 3, 32, 32) in, log-probabilities (batch, 10) out."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 32, kernel_size=3, stride=1),  # (batch, 32, 30, 30)
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 64, kernel_size=3, stride=2),  # (batch, 64, 14, 14)
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(64, 128, kernel_size=3, stride=1),  # (batch, 128, 12, 12)
            relu3=nn.ReLU(),
            flatten=nn.Flatten(),  # (batch, 18432)
            linear1=nn.Linear(18432, 128),
            relu4=nn.ReLU(),
            linear2=nn.Linear(128, 10),
            log_softmax=nn.LogSoftmax(dim=1),
        )
    )


def make_model(config: Config) -> nn.Module:
    """The network of a Config on the CPU, with the initial weights of its seed."""
    torch.manual_seed(config.seed)
    dtype = getattr(torch, config.dtype)
    if config.model == "cnn":
        return cnn().to(dtype)
    inputs = math.prod(SPECS[config.dataset].image_shape)
    model = mlp(inputs, config.activation).to(dtype)
    if config.init == "template":
        weights = initial_weights(mlp_sizes(inputs), config.seed)
        for number in (1, 2, 3):
            layer = model.get_submodule(f"linear{number}")
            layer.weight.data.copy_(torch.from_numpy(weights[f"weights_{number}"].T))
            layer.bias.data.copy_(torch.from_numpy(weights[f"bias_{number}"]))
    return model


def make_optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a Config, with PyTorch's defaults for all but rate and momentum."""
    optimizer_class = getattr(torch.optim, OPTIMIZERS[config.optimizer].torch_class)
    options = {"momentum": config.momentum} if config.optimizer == "momentum" else {}
    return optimizer_class(model.parameters(), lr=config.learning_rate, **options)


class TorchLearner:
    """The learner of a PyTorch model (see learner.Learner for the methods).

    Images stay on the device as bytes and are scaled batch by batch; losses and hits are summed
    there too, so that the loop over batches never waits for the device.
    """

    def __init__(self, config: Config, dataset: Dataset):
        self.device = torch.device(config.device_type)
        self.dtype = getattr(torch, config.dtype)
        self.batch_size = config.batch_size
        self.scaling = dataset.scaling
        self.images = {k: torch.from_numpy(v).to(self.device) for k, v in dataset.images.items()}
        self.labels = {k: torch.from_numpy(v).to(self.device) for k, v in dataset.labels.items()}
        self.model = make_model(config).to(self.device)
        self.optimizer = make_optimizer(config, self.model)
        self.hardware = _hardware(self.device)
        self._reset_sums()
        self._warm_up()

    def train_epoch(self, order: np.ndarray) -> Score:
        self.model.train()
        self._reset_sums()
        for index in torch.from_numpy(order).to(self.device).split(self.batch_size):
            loss = self._forward("train", index)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return self.running_score()

    @torch.inference_mode()
    def evaluate(self, split: str) -> Score:
        self.model.eval()
        self._reset_sums()
        everything = torch.arange(len(self.labels[split]), device=self.device)
        for index in everything.split(EVALUATION_BATCH):
            self._forward(split, index)
        return self.running_score()

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def state(self) -> dict[str, np.ndarray]:
        return {name: value.cpu().numpy() for name, value in self.model.state_dict().items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    def training_state(self) -> dict[str, np.ndarray]:
        remembered = self.optimizer.state_dict()["state"]
        return self.state() | {
            f"{OPTIMIZER}{number}.{name}": value.cpu().numpy()
            for number, values in remembered.items()
            for name, value in values.items()
        }

    def load_training_state(self, state: dict[str, np.ndarray]) -> None:
        self.load_state({k: v for k, v in state.items() if not k.startswith(OPTIMIZER)})
        parameters = list(self.model.parameters())
        for key in state.keys() - self.state().keys():
            number, name = key.removeprefix(OPTIMIZER).split(".")
            # A copy: the optimizer would go on to write into the array. Not through its
            # load_state_dict, which changes dtypes. Counters are kept on the CPU.
            value = torch.tensor(state[key])
            value = value.to(self.device) if value.ndim else value
            self.optimizer.state[parameters[int(number)]][name] = value

    def running_score(self) -> Score:
        loss_sum, hits = self._sums.tolist()
        return Score.mean(loss_sum, hits, self._examples)

    def _forward(self, split: str, index: Tensor) -> Tensor:
        """The mean loss of the images at `index` (batch,), which also enters the sums."""
        images = self.images[split][index].to(self.dtype)
        images.mul_(self.scaling.factor).add_(self.scaling.offset)
        labels = self.labels[split][index]
        log_probabilities = self.model(images)  # (batch, 10)
        loss = functional.nll_loss(log_probabilities, labels)
        with torch.no_grad():
            hits = (log_probabilities.argmax(dim=1) == labels).sum()
            self._sums += torch.stack((loss.double() * len(index), hits))
        self._examples += len(index)
        return loss

    def _reset_sums(self) -> None:
        # Double precision: a float32 sum of 50,000 losses would lose three digits.
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        self._examples = 0

    def _warm_up(self) -> None:
        """One forward and backward pass without a step: loads kernels, changes no weight."""
        index = torch.arange(self.batch_size, device=self.device)
        self._forward("train", index).backward()
        self.optimizer.zero_grad()
        self._reset_sums()


def _hardware(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {"hardware": name, "threads": str(torch.get_num_threads())}
