"""How long tests wait for what must come."""

from __future__ import annotations

#: Seconds. Also on a slow machine that does other things, so that only what never comes is missed.
PATIENCE = 60.0
