"""The PyTorch MLP on MNIST on the CPU and on the GPU.

Question: how does the test accuracy develop over training time on each?

Varies: the device. Fixed: all else, as in mlp_torch with its defaults; the same weights and
order of the data, so over the epochs both curves are one.

Expected: the same accuracy after each epoch on both, because weights and order of the data are the
same. Over time the GPU may be ahead, but so small a network does not fill it. About a minute on two
CPU cores.

Source: sheet 3, task 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from eml.config import AUTO, Config, ConfigError
from eml.recipes import mlp_torch
from eml.recipes.recipe import OVER_BOTH, FindDevice, Recipe, TrainingOptions, listed


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Options of the comparison of devices."""

    devices: Annotated[str, "one training on each; cpu for the CPU alone"] = "cpu,cuda"

    def placed(self, configs: Sequence[Config], find_device: FindDevice) -> list[Config]:
        on_gpu = any(config.device_type == "cuda" for config in configs)
        if on_gpu and find_device(AUTO) == "cpu":
            raise ConfigError(
                f"devices={self.devices}: no GPU can be used here (jobs of a cluster may have one: "
                "docs/cluster.md); give cpu for the CPU alone"
            )
        return list(configs)


def configs(options: Options) -> list[Config]:
    """The same training for each device."""
    devices = listed("devices", options.devices, str)
    if unknown := [device for device in devices if device not in ("cpu", "cuda")]:
        raise ConfigError(f"devices={options.devices}: no {unknown[0]}, give cpu, cuda or both")
    (config,) = mlp_torch.configs(mlp_torch.Options(seed=options.seed, **options.shared))
    return [replace(config, device_type=device) for device in devices]


RECIPE = Recipe(
    name="cpu_vs_gpu",
    exercise="3.2 CPU and GPU",
    varies="device_type",
    about=__doc__,
    options=Options,
    configs=configs,
    figures=OVER_BOTH,
)
