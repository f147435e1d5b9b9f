"""The trainings of one parent run: reused from the store, or carried out by a launcher."""

from collections.abc import Iterable, Sequence

from eml.analysis.comparison import Comparison
from eml.analysis.curves import Training
from eml.config import Config
from eml.sweeps.request import Request
from eml.tracking import find, runs
from eml.tracking.digests import training_digest
from eml.tracking.history import history_of
from eml.tracking.readers import StoredRun
from eml.tracking.tags import REUSED, number_in
from eml.training.threads import Asked


class Trainings:
    """Carries out trainings nested in a parent run, and keeps the run id of each Config."""

    def __init__(self, request: Request, parent: str):
        """parent: the id of the parent run."""
        self.request, self.parent, self.launcher = request, parent, request.launcher
        # Whether all trainings have the number of threads of the first.
        self.same_threads = request.recipe.compares_seconds and not request.recipe.reuses
        self.like: dict[str, str] = {}  # tags of runs of other commands that may be reused
        self.reusing = request.recipe.reuses and request.launching.resume
        self.run_ids: dict[Config, str] = {}
        self.reused: list[str] = []
        self.failed: dict[Config, str] = {}

    def train(self, configs: Sequence[Config]) -> None:
        """Train the Configs that are not finished in the store."""
        missing = []
        for config in configs:
            done = self._finished(config)
            if done is None:
                missing.append(config)
                continue
            if config not in self.run_ids:
                print(f"already done: {config.run_name}, run {done.where}", flush=True)
            if done.run_id not in self.reused and done.parent != self.parent:
                self.reused.append(done.run_id)
                runs.tag_run(self.parent, {REUSED: ",".join(self.reused)})
                if self.same_threads and config.device_type == "cpu":
                    self.like["threads"] = done.tags.get("threads", "")
            self.run_ids[config] = done.run_id
        launching = self.request.launching
        number = launching.number("threads") or number_in(self.like, "threads")
        asked = Asked(max(number, 0), self.launcher.at_once, self.same_threads)
        of_parent = {"parent": self.parent, "copy_from_others": self.reusing}
        tasks = [self.request.task(config, asked, **of_parent) for config in missing]
        results = self.launcher.run(tasks)
        made = find.children(self.parent)
        for task, result in zip(tasks, results, strict=True):
            self.failed.pop(task.config, None)
            self.run_ids.pop(task.config, None)
            if result.reason:
                self.failed[task.config] = result.reason
            else:
                self.run_ids[task.config] = made[training_digest(task.config)].run_id

    def _finished(self, config: Config) -> StoredRun | None:
        """A finished run of this training, in any store; None if there is none."""
        done = find.finished_training(config, self.parent)
        if done or not self.reusing:
            return done
        return find.finished_training(config, others=self.request.others, like=self.like)

    def made_of(self, configs: Iterable[Config]) -> list[str]:
        """The run ids of the Configs that have not failed."""
        return [self.run_ids[config] for config in configs if config in self.run_ids]

    def trained(self, configs: Iterable[Config]) -> dict[Config, Training]:
        """The trainings of the Configs that have not failed, from the store."""
        ids = {self.run_ids[config]: config for config in configs if config in self.run_ids}
        if not ids:
            return {}
        trainings = Comparison(history_of(list(ids), self.request.others)).trainings
        return {ids[training.run_id]: training for training in trainings}
