"""Sweeps: the space of parameters, the samplers that propose trials, and the outcomes of trials."""
