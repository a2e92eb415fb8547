"""What a run would compute and what it would reuse."""
