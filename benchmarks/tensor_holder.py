"""A process that holds a batch of images, gives it as the tensor plane does, and in two other ways.

It prints where, as JSON: references, the port of a socket that sends the bytes to whoever connects and nothing
else, and the port of one that sends a JSON list of PNG files in base64, as other distributed nodes do.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import sys
import threading
from collections.abc import Callable

import torch
from PIL import Image

from comfy_dist.tensors.memory import bytes_of
from comfy_dist.tensors.plane import Plane

SHAPE = (8, 1024, 1024, 3)


def images(kind: str) -> torch.Tensor:
    """Noise, or soft colours of 8 bits as pictures have."""
    if kind == "noise":
        return torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))
    ramp = torch.linspace(0, 1, 1024)
    batch = torch.stack([ramp.expand(1024, -1), ramp[:, None].expand(-1, 1024), ramp.flip(0).expand(1024, -1)], -1)
    return ((batch.repeat(8, 1, 1, 1) * 255).round().to(torch.float32) / 255).contiguous()


def as_pngs(batch: torch.Tensor) -> bytes:
    texts = []
    for image in batch:
        file = io.BytesIO()
        Image.fromarray((image * 255).clamp(0, 255).to(torch.uint8).numpy()).save(file, "PNG", compress_level=1)
        texts.append(base64.b64encode(file.getvalue()).decode())
    return json.dumps({"images": texts}).encode()


def serve(content: Callable[[], memoryview | bytes]) -> int:
    """The port of a socket that sends it to whoever connects, one after another."""
    server = socket.create_server(("127.0.0.1", 0))

    def loop() -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(content())

    threading.Thread(target=loop, daemon=True).start()
    return int(server.getsockname()[1])


def main() -> None:
    torch.set_num_threads(1)
    place = {"listen": "127.0.0.1", "advertise": "127.0.0.1"}
    plane = Plane(place)
    noise, soft = images("noise"), images("soft")
    found = {
        "noise": plane.pack(noise, "benchmark")["ref"],
        "soft": plane.pack(soft, "benchmark")["ref"],
        "socket": serve(lambda: bytes_of(noise)),
        "pngs": serve(lambda: as_pngs(noise)),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
