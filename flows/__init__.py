"""When things run, in what order and what happens on failure: Prefect flows, Ray jobs, the command line."""
