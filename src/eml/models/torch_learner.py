"""The learner that trains a PyTorch network, on the CPU or on a GPU."""

import ctypes
import platform
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eml.config import Config, ConfigError
from eml.data.datasets import Dataset
from eml.machine import cpu_instructions, hardware
from eml.models.learner import Score
from eml.models.torch_networks import make_model, make_optimizer

# Prefixes in a training state, of the optimizer's tensors and of random states; no weight has one.
OPTIMIZER, RANDOM = "optimizer:", "random:"
# Images. On a CPU the output of a layer should stay in the caches: the CNN evaluates three times as
# many images a second in batches of 125 as in batches of 1000. On a GPU 2000 images keep all cores
# busy and take half a GB.
EVALUATION_BATCH = {"cpu": 125, "cuda": 2000}


class TorchLearner:
    """The learner of a PyTorch model (see learner.Learner for the methods).

    Images stay on the device as bytes and are scaled batch by batch. The log-probabilities of each
    image stay there too, so that the loop over batches never waits for the device.
    """

    def __init__(self, config: Config, dataset: Dataset, code: ModuleType | None = None):
        """code: the user's own (own_code.py), with another network."""
        self.device = torch.device(config.device_type)
        on_gpu = self.device.type == "cuda"
        self.hardware = hardware(self.device.type)
        if config.precision != "fp32" and not has_less_precision(self.device):
            raise ConfigError(
                f"precision={config.precision}: not on this {self.hardware}, give fp32"
            )
        self.dtype = getattr(torch, config.dtype)
        self.config = config
        self.factor = dataset.scaling.factor
        # One-dimensional, because a scalar would not decide the dtype of a sum with bytes.
        self.offset = torch.full((1,), dataset.scaling.offset, dtype=self.dtype, device=self.device)
        # With one channel, those of MNIST too: (images, channels, height, width).
        arrays = {k: v.reshape(len(v), -1, *v.shape[-2:]) for k, v in dataset.images.items()}
        self.images = {k: torch.from_numpy(v).to(self.device) for k, v in arrays.items()}
        self.labels = {k: torch.from_numpy(v).to(self.device) for k, v in dataset.labels.items()}
        # Convolutions are faster with the channels last on a CPU (measured) and with a GPU's tensor
        # cores (NVIDIA's advice). In own code a view() of such a tensor fails.
        gains = config.model == "cnn" and (not on_gpu or config.precision != "fp32")
        self.memory_format = torch.channels_last if gains and not code else torch.contiguous_format
        model = make_model(config, code).to(self.device)
        self.model = model.to(memory_format=self.memory_format)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.optimizer = make_optimizer(config, self.model)
        self._log_probabilities = {  # (images, 10), from the last time each image was seen
            split: torch.zeros(len(labels), 10, dtype=self.dtype, device=self.device)
            for split, labels in self.labels.items()
        }
        self._seen = "train", torch.arange(0)  # the split of the current pass, the indices so far
        if not on_gpu:
            keep_freed_memory()
        allow_tf32(config.precision == "tf32")
        initial = {name: values.copy() for name, values in self.training_state().items()}
        self.practise()  # loads kernels
        self.load_training_state(initial)

    def use_threads(self, number: int) -> None:
        torch.set_num_threads(number)

    def practise(self) -> None:
        (group,) = self.optimizer.param_groups
        group["lr"] = 0.0
        self.model.train()
        self._step(torch.arange(self.config.batch_size, device=self.device))
        group["lr"] = self.config.learning_rate

    def train_epoch(self, order: np.ndarray) -> Score:
        self.model.train()
        images = torch.from_numpy(order).to(self.device)
        return self._go_through("train", images, self.config.batch_size, self._step)

    @torch.inference_mode()
    def evaluate(self, split: str) -> Score:
        self.model.eval()
        images = torch.arange(len(self.labels[split]), device=self.device)
        batch = EVALUATION_BATCH[self.device.type]
        return self._go_through(split, images, batch, lambda index: self._forward(split, index))

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def state(self) -> dict[str, np.ndarray]:
        return {k: v.cpu().contiguous().numpy() for k, v in self.model.state_dict().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    def training_state(self) -> dict[str, np.ndarray]:
        remembered = self.optimizer.state_dict()["state"]
        tensors = {RANDOM + "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors[RANDOM + "cuda"] = torch.cuda.get_rng_state(self.device)
        for number, values in remembered.items():
            tensors |= {f"{OPTIMIZER}{number}.{name}": value for name, value in values.items()}
        return self.state() | {k: v.cpu().contiguous().numpy() for k, v in tensors.items()}

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
        self.load_state({k: v for k, v in state.items() if not k.startswith((OPTIMIZER, RANDOM))})
        for name, load in {"cpu": torch.set_rng_state, "cuda": torch.cuda.set_rng_state}.items():
            if RANDOM + name in state:
                load(torch.from_numpy(state[RANDOM + name]))

    def running_score(self) -> Score:
        split, index = self._seen  # read once: another thread may ask
        log_probabilities = self._log_probabilities[split][index]  # (examples, 10)
        labels = self.labels[split][index]  # (examples,)
        # In double precision: a float32 sum of 50,000 losses would lose three digits.
        loss = functional.nll_loss(log_probabilities.double(), labels, reduction="sum")
        hits = (log_probabilities.argmax(dim=1) == labels).sum()
        # One transfer for both, because each waits for the device.
        loss_sum, hit_sum = torch.stack((loss, hits)).tolist()
        return Score.mean(loss_sum, hit_sum, len(index))

    def _go_through(
        self, split: str, order: Tensor, batch: int, use: Callable[[Tensor], object]
    ) -> Score:
        """Call use() with the indices (batch,) of one batch after the other; return the score."""
        allow_tf32(self.config.precision == "tf32")
        self._seen = split, order[:0]
        for start in range(0, len(order), batch):
            use(order[start : start + batch])
            self._seen = split, order[: start + batch]
        return self.running_score()

    def _step(self, index: Tensor) -> None:
        """Make a step with the training images at `index` (batch,)."""
        loss = self._forward("train", index)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _forward(self, split: str, index: Tensor) -> Tensor:
        """Return the mean loss of the images at `index` (batch,); store their log-probabilities."""
        images = self.images[split].index_select(0, index)
        images = images.contiguous(memory_format=self.memory_format)
        images = torch.add(self.offset, images, alpha=self.factor)
        is_bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_bf16):
            log_probabilities = self.model(images).to(self.dtype)  # (batch, 10)
            loss = functional.nll_loss(log_probabilities, self.labels[split].index_select(0, index))
        self._log_probabilities[split].index_copy_(0, index, log_probabilities.detach())
        return loss


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


def has_less_precision(device: torch.device) -> bool:
    """Whether the device has instructions for `precision`; without them PyTorch is slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(cpu_instructions() & {"avx512_bf16", "amx_bf16"})
