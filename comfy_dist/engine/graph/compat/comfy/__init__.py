"""The package `comfy`: only its submodules."""
