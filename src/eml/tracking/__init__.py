"""Everything that touches MLflow. Other packages may call:

calls: StoreError, StoreAwayError (the store refuses, does not answer); for_other_processes()
store: is_there(), open_store(), refuse_if_local()
runs: run() and Paused (a run of this process); active_run(), where(), given_run(); of any run
    close_run(), stop_run(), tag_run(); now()
resume: continued_run(), prepared_run(), Resumed (runs that continue where others were interrupted);
    to_continue() (which run a command would continue)
log: log_setup(), Delivery (epochs), log_result(), log_metrics(), log_files(), logged_epochs()
find: open_others(), names_in(), below(), Others (stores of others); Stores (all, read as one);
    get(), search(), children(), threads_beside(), finished_training() (runs)
reap: begin() (at the start of each command)
readers: StoredRun (a run without its points, with its Config or why it has none); FINISHED
history: load_history(), history_of(), described(), METRICS (the frame of many runs);
    finished_groups() and Group, members() (trainings)
compare: compare()
publish: report(), report_grid() (figures and tables of a recipe)
models: log_model(), load_model() (weights)
digests: training_digest(), plan_digest() (whether two trainings, or sweeps, are the same)
provenance: code_state() (the commit of the source, and whether files differ from it)
tags: the names of tags; number_in()
"""
