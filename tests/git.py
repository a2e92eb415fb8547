"""Git as a user calls it."""

import subprocess


def git(folder, *words):
    """Run a git command in a folder, and return what it prints."""
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
