"""A real RabbitMQ for the tests: given by address, in a container, or Debian's started in a temporary folder."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.patience import PATIENCE

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
#: Processes of one run of the tests that have ports of their own.
PLACES = 16
#: Ports that were given out here.
_given: set[int] = set()


def free_port() -> int:
    """One that stays free while nobody listens: none that the system gives to connections, nor to a bind to 0, nor
    another process of these tests, nor this one a second time."""
    place = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.randrange(10_000 + place % PLACES, 32_000, PLACES)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def answers(port: int) -> bool:
    """Whether an AMQP broker greets: a wrong protocol header is answered with the right one."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            sock.settimeout(2)
            sock.sendall(b"AMQP\x00\x00\x00\x00")
            return sock.recv(4) == b"AMQP"
    except OSError:
        return False


@dataclass
class Rabbit:
    """Debian's rabbitmq-server on free ports, all its files in `home`."""

    home: Path
    port: int = field(default_factory=free_port)
    dist_port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def node(self) -> str:
        return f"comfy_dist_{self.port}@localhost"

    def env(self) -> dict[str, str]:
        plugins = self.home / "enabled_plugins"
        plugins.write_text("[].")
        return {
            **os.environ,
            "HOME": str(self.home),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            **self.environment,
        }

    def start(self) -> None:
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(SERVER)], env=self.env(), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"rabbitmq-server did not start:\n{(self.home / 'server.log').read_text()[-3000:]}"
                )
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def ctl(self, *arguments: str) -> str:
        """What rabbitmqctl says about this node."""
        done = subprocess.run(
            ["/usr/lib/rabbitmq/bin/rabbitmqctl", "-q", "-n", self.node, *arguments],
            env=self.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout

    def until_counts(self, *queues: str, ready: int, held: int) -> None:
        """Wait until each of these queues of work has so many ready and unacknowledged messages."""
        # Waits in the broker, as each rabbitmqctl is dear, and asks the queue itself: lists are seconds old.
        names = ", ".join(f'<<"{queue}">>' for queue in queues)
        ask = f"""
            Count = fun(Name) ->
                {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, Name)),
                [case ra:local_query(amqqueue:get_pid(Queue), Each) of {{ok, {{_, N}}, _}} -> N; _ -> unknown end
                 || Each <- [fun rabbit_fifo:query_messages_ready/1, fun rabbit_fifo:query_messages_checked_out/1]]
            end,
            Wait = fun Wait(Tries) ->
                case [{{Name, Found}} || Name <- [{names}], Found <- [Count(Name)], Found /= [{ready}, {held}]] of
                    [] -> as_wanted;
                    Others when Tries == 0 -> Others;
                    _ -> timer:sleep(100), Wait(Tries - 1)
                end
            end,
            Wait({round(PATIENCE * 10)})."""
        found = self.ctl("eval", ask).strip()
        assert found == "as_wanted", f"{found}, not {ready} and {held}"


@contextmanager
def own_broker() -> Iterator[Rabbit]:
    """A broker of one's own, to be restarted and asked at will."""
    home = Path(tempfile.mkdtemp(prefix="comfy-dist-rabbit-"))
    rabbit = Rabbit(home)
    try:
        rabbit.start()
        yield rabbit
    finally:
        rabbit.stop(signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def docker_answers() -> bool:
    try:
        import docker

        docker.from_env(timeout=3).ping()
    except Exception:  # noqa: BLE001  (no engine, no socket, no rights: all the same to us)
        return False
    return True


@contextmanager
def shared_broker() -> Iterator[str]:
    """The address of a broker for tests that leave it as it is."""
    if uri := os.environ.get("COMFY_DIST_TEST_AMQP_URI"):
        yield uri
    elif SERVER.exists():
        with own_broker() as rabbit:
            yield rabbit.uri
    elif docker_answers():
        from testcontainers.rabbitmq import RabbitMqContainer

        with RabbitMqContainer("rabbitmq:4") as container:
            host, port = container.get_container_host_ip(), container.get_exposed_port(5672)
            yield f"amqp://guest:guest@{host}:{port}/"
    else:
        raise RuntimeError(
            "The tests need RabbitMQ: install Debian's rabbitmq-server, run Docker, "
            "or set COMFY_DIST_TEST_AMQP_URI."
        )
