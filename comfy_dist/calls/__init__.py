"""Calls: parts of a graph that are executed elsewhere. What the workers import of it needs no torch."""
