"""The learner that trains a PyTorch network, on the CPU or as a CUDA graph on a GPU."""

import contextlib
import ctypes
import platform
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eml.config import Config, ConfigError
from eml.data.datasets import Dataset
from eml.hardware import cpu_name
from eml.models.learner import Score
from eml.models.torch_networks import make_model, make_optimizer

OPTIMIZER = "optimizer."  # what names in a training state begin with that are not weights
# Images. On a CPU what a layer returns should stay in its caches: the CNN evaluates three times as
# many images a second in batches of 125 as in batches of 1000. 2000 give each of a GPU's cores
# thousands of outputs to compute, in half a GB.
EVALUATION_BATCH = {"cpu": 125, "cuda": 2000}


class _Pass(NamedTuple):
    """How far a pass over the images of a split is."""

    split: str
    order: Tensor  # (images,), in which they are seen
    examples: int  # that have been seen

    def after(self, index: Tensor) -> "_Pass":
        """When the images at `index` (batch,) have been seen, too."""
        return self._replace(examples=self.examples + len(index))


class TorchLearner:
    """The learner of a PyTorch model (see learner.Learner for the methods).

    Images stay on the device as bytes and are scaled batch by batch; what the network says of each
    is kept there, too, so that the loop over batches never waits for the device.
    """

    def __init__(self, config: Config, dataset: Dataset):
        self.device = torch.device(config.device_type)
        if config.precision != "fp32" and torch.cuda.get_device_capability(self.device) < (8, 0):
            name = torch.cuda.get_device_name(self.device)
            raise ConfigError(f"precision={config.precision}: not on this {name}, give fp32")
        self.dtype = getattr(torch, config.dtype)
        self.precision = config.precision
        self.batch_size = config.batch_size
        self.factor = dataset.scaling.factor
        # With a dimension, because a number would not decide the dtype of a sum with bytes.
        self.offset = torch.full((1,), dataset.scaling.offset, dtype=self.dtype, device=self.device)
        self.images = {k: torch.from_numpy(v).to(self.device) for k, v in dataset.images.items()}
        self.labels = {k: torch.from_numpy(v).to(self.device) for k, v in dataset.labels.items()}
        self.memory_format = _memory_format(config)
        model = make_model(config).to(self.device)
        self.model = model.to(memory_format=self.memory_format)
        self.optimizer = make_optimizer(config, self.model)
        self.hardware = _hardware(self.device)
        self._log_probabilities = {  # (images, 10), of each image when it was last seen
            split: torch.zeros(len(labels), 10, dtype=self.dtype, device=self.device)
            for split, labels in self.labels.items()
        }
        self._pass = _Pass("train", torch.arange(0, device=self.device), 0)
        if self.device.type == "cpu":
            keep_freed_memory()
        self._captured = self._warm_up()

    def train_epoch(self, order: np.ndarray) -> Score:
        allow_tf32(self.precision == "tf32")
        self.model.train()
        on_device = torch.from_numpy(order).to(self.device)
        self._pass = _Pass("train", on_device, 0)
        for index in on_device.split(self.batch_size):
            self._step(index)
            self._pass = self._pass.after(index)
        return self.running_score()

    @torch.inference_mode()
    def evaluate(self, split: str) -> Score:
        allow_tf32(self.precision == "tf32")
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

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    def training_state(self) -> dict[str, np.ndarray]:
        remembered = self.optimizer.state_dict()["state"]
        return self.state() | {
            f"{OPTIMIZER}{number}.{name}": value.cpu().contiguous().numpy()
            for number, values in remembered.items()
            for name, value in values.items()
        }

    def load_training_state(self, state: dict[str, np.ndarray]) -> None:
        self.load_state({k: v for k, v in state.items() if not k.startswith(OPTIMIZER)})
        parameters = list(self.model.parameters())
        for key in state.keys() - self.state().keys():
            number, name = key.removeprefix(OPTIMIZER).split(".")
            # Into the tensors that are there, because a CUDA graph knows them by their addresses.
            remembered = self.optimizer.state[parameters[int(number)]][name]
            remembered.copy_(torch.from_numpy(state[key]))

    def running_score(self) -> Score:
        split, order, examples = self._pass  # read once: another thread may ask
        seen = order[:examples]
        log_probabilities = self._log_probabilities[split][seen]  # (examples, 10)
        labels = self.labels[split][seen]  # (examples,)
        # In double precision: a float32 sum of 50,000 losses would lose three digits.
        loss = functional.nll_loss(log_probabilities.double(), labels, reduction="sum")
        hits = (log_probabilities.argmax(dim=1) == labels).sum()
        # Together, because each transfer waits for the device.
        loss_sum, hit_sum = torch.stack((loss, hits)).tolist()
        return Score.mean(loss_sum, hit_sum, examples)

    def _step(self, index: Tensor) -> None:
        """A step with the training images at `index` (batch,), the fastest way there is."""
        if self._captured and len(index) == self.batch_size:
            self._captured.replay(index)
        else:
            self._plain_step(index)

    def _plain_step(self, index: Tensor) -> None:
        loss = self._forward("train", index)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _forward(self, split: str, index: Tensor) -> Tensor:
        """The mean loss of the images at `index` (batch,); what is said of each is kept."""
        images = self.images[split].index_select(0, index)
        images = images.contiguous(memory_format=self.memory_format)
        images = torch.add(self.offset, images, alpha=self.factor)
        with self._autocast():
            log_probabilities = self.model(images)  # (batch, 10)
            loss = functional.nll_loss(log_probabilities, self.labels[split].index_select(0, index))
        self._log_probabilities[split].index_copy_(0, index, log_probabilities.detach())
        return loss

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.precision == "bf16":
            # Without its cache, whose copies of the weights a CUDA graph would go on to use.
            return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)
        return contextlib.nullcontext()

    def _warm_up(self) -> "CapturedStep | None":
        """Make steps and undo them; on a GPU return a step as a CUDA graph.

        They load kernels, and make what the optimizer remembers.
        """
        allow_tf32(self.precision == "tf32")
        self.model.train()
        initial = [parameter.detach().clone() for parameter in self.model.parameters()]
        index = torch.arange(self.batch_size, device=self.device)
        captured = None
        if self.device.type == "cuda":
            captured = CapturedStep(self._plain_step, index)
        else:
            self._plain_step(index)
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), initial, strict=True):
                parameter.copy_(value)
        for remembered in self.optimizer.state.values():
            for name, value in remembered.items():
                value.fill_(1 if name == "mu_product" else 0)  # NAdam's begins as 1, all else as 0
        self.optimizer.zero_grad()
        return captured


class CapturedStep:
    """A step as a CUDA graph, which one call launches in place of some dozens of kernels."""

    def __init__(self, step: Callable[[Tensor], None], index: Tensor):
        """step: is made three times on the way. index: (batch,), images to make it with."""
        self._index = index.clone()
        # As torch.cuda.graphs asks for: on a stream of its own, before the capture.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step(self._index)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            step(self._index)

    def replay(self, index: Tensor) -> None:
        """The step with other images; `index` is as long as the one at first."""
        self._index.copy_(index)
        self._graph.replay()


def keep_freed_memory() -> None:
    """Have glibc keep the memory that a step frees for the next one; elsewhere do nothing.

    It would return large buffers to the system, which fills them with zeros, page by page, when
    they come back: for the CNN 2,000 to 3,000 page faults a step, a tenth of its time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    libc = ctypes.CDLL(None)
    # Before 2.35 it takes no more than 32 MiB for the second, and either ends its own adjustment.
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
    """How images lie in memory where a network convolves them."""
    # Faster on a CPU (measured), and for a GPU's tensor cores (NVIDIA's advice).
    if config.model == "cnn" and (config.device_type == "cpu" or config.precision != "fp32"):
        return torch.channels_last
    return torch.contiguous_format


def _hardware(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {"hardware": name, "threads": str(torch.get_num_threads())}
