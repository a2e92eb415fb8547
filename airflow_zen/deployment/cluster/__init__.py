"""Deployments in a Kubernetes cluster, by custom resources of serving systems."""
