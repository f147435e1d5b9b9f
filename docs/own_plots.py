"""A plot of your own, from the store: give `python docs/own_plots.py` where your store is.

The same lines work in a notebook. `eml compare --output figures` writes the same numbers as
history.csv.
"""

import matplotlib.pyplot as plt

import eml

history = eml.load_history()  # the newest finished exercise; help(eml.load_history) has the columns

# The seconds that each run needed to its best loss, over the loss.
best = history.loc[history.groupby("run_id")["test_loss"].idxmin()]
print(best[["run_name", "epoch", "test_loss", "test_accuracy", "train_seconds"]].to_string())

figure, axes = plt.subplots()
axes.scatter(best["train_seconds"], best["test_loss"])
for _, run in best.iterrows():
    axes.annotate(f"{run['learning_rate']:g}", (run["train_seconds"], run["test_loss"]))
axes.set(xlabel="training time to the best loss (s)", ylabel="lowest test loss", ylim=(0, None))
axes.set_title("labels: learning rate")
figure.savefig("own_plot.png")
