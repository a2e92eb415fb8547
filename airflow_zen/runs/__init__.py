"""The record of a step run."""
