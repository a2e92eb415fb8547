"""The Python API outside of steps: artifacts by ref and by name."""
