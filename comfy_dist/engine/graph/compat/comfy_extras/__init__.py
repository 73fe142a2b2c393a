"""The package `comfy_extras`: modules of which we have node classes."""
