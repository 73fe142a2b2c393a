"""The HTTP and websocket side. Holds no work of its own that dies with it."""
