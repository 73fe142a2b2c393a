"""Files of machines that share no storage: who has them, and how others get them (docs/files.md)."""
