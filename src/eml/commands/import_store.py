"""The `import` command: copies the finished runs of another store into this one."""

from eml.tracking.calls import uri
from eml.tracking.import_runs import import_runs
from eml.tracking.reap import begin


def import_store(store: str) -> None:
    """Copy what the store here lacks, and say how much that was."""
    begin(create=True)
    done = import_runs(store)
    print(f"runs copied to {uri()}: {done.new}; there already: {done.already}")
    if done.without_artifacts:
        print(
            f"mind: {len(done.without_artifacts)} of them without artifacts, which are not where "
            f"their store says: {', '.join(done.without_artifacts[:3])}"
        )
