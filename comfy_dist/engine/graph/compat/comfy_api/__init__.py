"""The package `comfy_api`: only its submodules."""
