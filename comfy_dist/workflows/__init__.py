"""Saved workflows: their two formats, where they lie, and what makes prompts of them. Pure but for the files."""
