"""The package `comfy_execution`: only its submodules."""
