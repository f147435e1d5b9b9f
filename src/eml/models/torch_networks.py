"""The MLP and the CNN of the sheets in PyTorch, and their optimizers."""

import math
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from types import ModuleType

import torch
from torch import Tensor, nn

from eml.config import Config
from eml.data.specs import SPECS
from eml.errors import UserError
from eml.models.numpy_mlp import initial_weights, mlp_sizes
from eml.models.optimizers import OPTIMIZERS

ACTIVATION_LAYERS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}


class LogSoftmax(nn.LogSoftmax):
    """LogSoftmax, but never in bfloat16, whose three digits are too few for a loss."""

    def forward(self, inputs: Tensor) -> Tensor:
        # Autocast makes this conversion on a GPU, but not on a CPU.
        return super().forward(inputs.float() if inputs.dtype == torch.bfloat16 else inputs)


def mlp(inputs: int, activation: str) -> nn.Module:
    """Make the MLP inputs-512-128-10 of sheet 2: images of any shape to log-probabilities."""
    layer = ACTIVATION_LAYERS[activation]
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            linear1=nn.Linear(inputs, 512),
            activation1=layer(),
            linear2=nn.Linear(512, 128),
            activation2=layer(),
            linear3=nn.Linear(128, 10),
            log_softmax=LogSoftmax(dim=1),
        )
    )


def cnn() -> nn.Module:
    """Make the CNN of sheet 3, task 3.3: (batch, 3, 32, 32) to log-probabilities (batch, 10)."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 32, kernel_size=3, stride=1),  # (batch, 32, 30, 30)
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(32, 64, kernel_size=3, stride=2),  # (batch, 64, 14, 14)
            relu2=nn.ReLU(inplace=True),
            conv3=nn.Conv2d(64, 128, kernel_size=3, stride=1),  # (batch, 128, 12, 12)
            relu3=nn.ReLU(inplace=True),
            flatten=nn.Flatten(),  # (batch, 18432)
            linear1=nn.Linear(18432, 128),
            relu4=nn.ReLU(inplace=True),
            linear2=nn.Linear(128, 10),
            log_softmax=LogSoftmax(dim=1),
        )
    )


def make_model(config: Config, code: ModuleType | None = None) -> nn.Module:
    """Make the network of a Config on the CPU, with the initial weights of its seed.

    code: the user's own (own_code.py), with functions mlp() or mlp(inputs), and cnn(). The weights
    of the template are copied into its MLP, too, if they have the same shapes.
    """
    torch.manual_seed(config.seed)
    inputs = math.prod(SPECS[config.dataset].image_shape)
    if code:
        make = getattr(code, config.model)
        model = make(**{"inputs": inputs} if "inputs" in signature(make).parameters else {})
        if not isinstance(model, nn.Module):
            raise UserError(f"{config.model}() gives a {type(model).__name__}, not an nn.Module")
    else:
        model = cnn() if config.model == "cnn" else mlp(inputs, config.activation)
    model = model.to(getattr(torch, config.dtype))
    if config.init == "template":
        # The weights of layer 1, its bias, those of layer 2 ...; PyTorch has (outputs, inputs).
        arrays = initial_weights(mlp_sizes(inputs), config.seed).values()
        initial = [torch.from_numpy(array.T) for array in arrays]
        parameters = list(model.parameters())
        if [p.shape for p in parameters] == [weights.shape for weights in initial]:
            for parameter, weights in zip(parameters, initial, strict=True):
                parameter.data.copy_(weights)
    return model


def make_optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer of a Config for the parameters of a model."""
    row = OPTIMIZERS[config.optimizer]
    module, _, name = row.made_by.rpartition(".")
    options = {option: getattr(config, option) for option in row.options}
    if config.device_type in row.fused:
        options["fused"] = True
    make: Callable[..., torch.optim.Optimizer] = getattr(import_module(module), name)
    return make(model.parameters(), lr=config.learning_rate, **options)
