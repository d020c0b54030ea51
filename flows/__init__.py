"""When things run, in what order and what happens on failure: Prefect flows, Ray job submission and the command line."""
