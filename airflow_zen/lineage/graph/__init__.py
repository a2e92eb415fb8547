"""The lineage of a DAG run as a graph: its model, its layout, and one file for each way to show it."""
