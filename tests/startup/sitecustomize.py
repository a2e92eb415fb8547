"""Loaded by each Python process that a test starts: less garbage collection, a fifth of the CPU of a process that imports Airflow or MLflow."""

import gc

gc.set_threshold(50_000, 20, 100)
