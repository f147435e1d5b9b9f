"""The learner that trains a PyTorch network, on the CPU or on a GPU."""

import contextlib
import ctypes
import platform
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eml.config import Config, ConfigError
from eml.data.datasets import Dataset
from eml.machine import cpu_instructions, cpu_name
from eml.models.learner import Score
from eml.models.torch_networks import make_model, make_optimizer

OPTIMIZER = "optimizer."  # prefix of the optimizer's tensors in a training state
# Images. On a CPU the output of a layer should stay in the caches: the CNN evaluates three times as
# many images a second in batches of 125 as in batches of 1000. On a GPU 2000 images keep all cores
# busy and take half a GB.
EVALUATION_BATCH = {"cpu": 125, "cuda": 2000}


class _Pass(NamedTuple):
    """The progress of a pass over the images of a split."""

    split: str
    order: Tensor  # (images,), indices in the order of the pass
    examples: int  # images seen so far

    def after(self, index: Tensor) -> "_Pass":
        """The progress after the images at `index` (batch,)."""
        return self._replace(examples=self.examples + len(index))


class TorchLearner:
    """The learner of a PyTorch model (see learner.Learner for the methods).

    Images stay on the device as bytes and are scaled batch by batch. The log-probabilities of each
    image stay there too, so that the loop over batches never waits for the device.
    """

    def __init__(self, config: Config, dataset: Dataset):
        self.device = torch.device(config.device_type)
        self.hardware = {"hardware": hardware_name(self.device)}
        if config.precision != "fp32" and not has_less_precision(self.device):
            name = self.hardware["hardware"]
            raise ConfigError(f"precision={config.precision}: not on this {name}, give fp32")
        self.dtype = getattr(torch, config.dtype)
        self.config = config
        self.factor = dataset.scaling.factor
        # One-dimensional, because a scalar would not decide the dtype of a sum with bytes.
        self.offset = torch.full((1,), dataset.scaling.offset, dtype=self.dtype, device=self.device)
        self.images = {k: torch.from_numpy(v).to(self.device) for k, v in dataset.images.items()}
        self.labels = {k: torch.from_numpy(v).to(self.device) for k, v in dataset.labels.items()}
        self.memory_format = _memory_format(config)
        model = make_model(config).to(self.device)
        self.model = model.to(memory_format=self.memory_format)
        self.optimizer = make_optimizer(config, self.model)
        self._log_probabilities = {  # (images, 10), from the last time each image was seen
            split: torch.zeros(len(labels), 10, dtype=self.dtype, device=self.device)
            for split, labels in self.labels.items()
        }
        self._pass = _Pass("train", torch.arange(0, device=self.device), 0)
        if self.device.type == "cpu":
            keep_freed_memory()
        allow_tf32(config.precision == "tf32")
        self.practise()  # loads kernels
        self.optimizer = make_optimizer(config, self.model)  # as before its first step

    def use_threads(self, number: int) -> None:
        torch.set_num_threads(number)

    def practise(self) -> None:
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        self.model.train()
        self._step(torch.arange(self.config.batch_size, device=self.device))
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def train_epoch(self, order: np.ndarray) -> Score:
        allow_tf32(self.config.precision == "tf32")
        self.model.train()
        on_device = torch.from_numpy(order).to(self.device)
        self._pass = _Pass("train", on_device, 0)
        for index in on_device.split(self.config.batch_size):
            self._step(index)
            self._pass = self._pass.after(index)
        return self.running_score()

    @torch.inference_mode()
    def evaluate(self, split: str) -> Score:
        allow_tf32(self.config.precision == "tf32")
        self.model.eval()
        order = torch.arange(len(self.labels[split]), device=self.device)
        self._pass = _Pass(split, order, 0)
        for index in order.split(EVALUATION_BATCH[self.device.type]):
            self._forward(split, index)
            self._pass = self._pass.after(index)
        return self.running_score()

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def state(self) -> dict[str, np.ndarray]:
        return {
            name: value.cpu().contiguous().numpy()
            for name, value in self.model.state_dict().items()
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    def training_state(self) -> dict[str, np.ndarray]:
        remembered = self.optimizer.state_dict()["state"]
        return self.state() | {
            f"{OPTIMIZER}{number}.{name}": value.cpu().contiguous().numpy()
            for number, values in remembered.items()
            for name, value in values.items()
        }

    def load_training_state(self, state: dict[str, np.ndarray]) -> None:
        self.optimizer = make_optimizer(self.config, self.model)
        remembered = [key for key in state if key.startswith(OPTIMIZER)]
        if remembered:  # else the state is that before the first step
            self.practise()  # creates its tensors, on their devices and in their memory formats
        parameters = list(self.model.parameters())
        for key in remembered:
            number, name = key.removeprefix(OPTIMIZER).split(".")
            tensor = self.optimizer.state[parameters[int(number)]][name]
            tensor.copy_(torch.from_numpy(state[key]))
        self.load_state({key: state[key] for key in state.keys() - remembered})

    def running_score(self) -> Score:
        split, order, examples = self._pass  # read once: another thread may ask
        seen = order[:examples]
        log_probabilities = self._log_probabilities[split][seen]  # (examples, 10)
        labels = self.labels[split][seen]  # (examples,)
        # In double precision: a float32 sum of 50,000 losses would lose three digits.
        loss = functional.nll_loss(log_probabilities.double(), labels, reduction="sum")
        hits = (log_probabilities.argmax(dim=1) == labels).sum()
        # One transfer for both, because each waits for the device.
        loss_sum, hit_sum = torch.stack((loss, hits)).tolist()
        return Score.mean(loss_sum, hit_sum, examples)

    def _step(self, index: Tensor) -> None:
        """A step with the training images at `index` (batch,)."""
        loss = self._forward("train", index)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _forward(self, split: str, index: Tensor) -> Tensor:
        """The mean loss of the images at `index` (batch,); stores their log-probabilities."""
        images = self.images[split].index_select(0, index)
        images = images.contiguous(memory_format=self.memory_format)
        images = torch.add(self.offset, images, alpha=self.factor)
        with self._autocast():
            log_probabilities = self.model(images)  # (batch, 10)
            loss = functional.nll_loss(log_probabilities, self.labels[split].index_select(0, index))
        self._log_probabilities[split].index_copy_(0, index, log_probabilities.detach())
        return loss

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.config.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next step; without glibc do nothing.

    By default glibc returns large buffers to the system, which fills them with zeros page by page
    at the next use: for the CNN 2,000 to 3,000 page faults a step, a tenth of the time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    libc = ctypes.CDLL(None)
    # glibc before 2.35 accepts at most 32 MiB; setting a threshold ends its own adjustment.
    if libc.mallopt(mmap_threshold, 1 << 30) or libc.mallopt(mmap_threshold, 1 << 25):
        libc.mallopt(trim_threshold, 1 << 30)


def allow_tf32(allowed: bool) -> None:
    """Set whether a GPU may round the factors of float32 products and convolutions to 10 bits.

    PyTorch allows this rounding in convolutions by default.
    """
    precision = "tf32" if allowed else "ieee"
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = precision


def _memory_format(config: Config) -> torch.memory_format:
    """The memory format of images: channels_last where convolutions are faster with it."""
    # Faster on a CPU (measured) and with a GPU's tensor cores (NVIDIA's advice).
    if config.model == "cnn" and (config.device_type == "cpu" or config.precision != "fp32"):
        return torch.channels_last
    return torch.contiguous_format


def has_less_precision(device: torch.device) -> bool:
    """Whether the device has instructions for `precision`; without, PyTorch is slower with it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(cpu_instructions() & {"avx512_bf16", "amx_bf16"})


def hardware_name(device: torch.device) -> str:
    """The maker's name of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
