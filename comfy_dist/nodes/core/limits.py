"""Limits that nodes share."""

#: The longest side of a picture.
MAX_RESOLUTION = 16384
