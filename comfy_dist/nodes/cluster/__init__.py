"""The Cluster nodes: one graph over many GPUs."""
