"""The exercises of the course, a file for each: options in, Configs out, defaults and claim."""

from eml.recipes import (
    cifar_cnn,
    cifar_mlp,
    cpu_vs_gpu,
    first_look,
    lr_sweep,
    mlp_numpy,
    mlp_torch,
    mlp_vs_cnn,
    optimizers,
)

# In the order of the sheets.
SHEET_2 = (mlp_numpy, lr_sweep)
SHEET_3 = (mlp_torch, cpu_vs_gpu, cifar_mlp, cifar_cnn, mlp_vs_cnn, optimizers)
RECIPES = {module.RECIPE.name: module.RECIPE for module in (first_look, *SHEET_2, *SHEET_3)}
