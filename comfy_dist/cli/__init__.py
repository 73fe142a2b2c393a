"""The commands. Imports stay inside the functions that need them, so that --help answers at once."""
