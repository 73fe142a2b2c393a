"""Every setting. A class is a group of `--help`; a command's settings are the groups it inherits."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from comfy_dist.settings.group import Group
from comfy_dist.settings.values import Duration, EngineChoice, Hosts, Names, Secrets, WebAddress, Words

ALL_ADDRESSES = "0.0.0.0,::"


class QueueSettings(Group):
    """queue"""

    distributed_queue_connection_uri: SecretStr | None = Field(
        None, description="RabbitMQ to work with, amqp://user:password@host:5672/vhost; none: one process"
    )
    distributed_queue_name: str = Field(
        "comfyui", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="prefix of all queues and streams"
    )
    max_attempts: int = Field(3, ge=1, description="how often a job whose engine or worker dies is tried in all")
    event_retention: Duration = Field(
        604800.0, gt=0, description="how long job events and what has ended are kept, on the broker and here"
    )
    event_retention_size: float = Field(
        2.0, ge=0.1, description="and how much of it at most, in GB, in each of these places"
    )


class FrontendQueueSettings(Group):
    """queue"""

    distributed_queue_frontend: bool = Field(False, description="be a frontend only")
    distributed_queue_worker: bool = Field(False, description="be a worker only (as comfyui-worker)")
    max_queue_size: int = Field(65536, ge=1, description="jobs that may wait; one more is answered 429")
    hold_unroutable: bool = Field(
        False, description="accept prompts that no live worker can run; they wait for one that can"
    )
    fair: bool = Field(False, description="let users take turns, however many jobs each of them has waiting")
    state_directory: Path | None = Field(
        None, description="this frontend's ledger, on a local disk (default: your user state folder)"
    )


class WorkspaceSettings(Group):
    """workspace"""

    SHORT: ClassVar[dict[str, str]] = {"cwd": "-w"}

    cwd: Path = Field(Path(), description="folder with models/ input/ output/ temp/ user/ custom_nodes/")
    output_directory: Path | None = Field(None, description="instead of output/ there")
    input_directory: Path | None = Field(None, description="instead of input/ there")
    temp_directory: Path | None = Field(None, description="instead of temp/ there")
    user_directory: Path | None = Field(None, description="instead of user/ there")


class FileSettings(Group):
    """files"""

    file_listen: str | None = Field(
        None,
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:\d{1,5})?$",
        description="HOST or HOST:PORT where others fetch files of this machine (default: the address that "
        "reaches the broker, any free port)",
    )
    file_advertise: WebAddress | None = Field(
        None,
        description="the address others reach that under, where it is another, such as http://203.0.113.7:8190",
    )
    file_cache: float = Field(10.0, gt=0, description="how many GB of other machines' files are kept here")


class WorkerFileSettings(Group):
    """files"""

    file_retention: Duration = Field(
        604800.0, gt=0, description="how long others may fetch what jobs wrote here; it stays where it is"
    )


class TensorSettings(Group):
    """tensors"""

    tensor_listen: str | None = Field(
        None,
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:\d{1,5})?$",
        description="HOST or HOST:PORT where other workers fetch tensors of this one; more engines take the next "
        "ports (default: the address that reaches the broker, any free port)",
    )
    tensor_advertise: WebAddress | None = Field(
        None,
        description="the address others reach that under, where it is another, such as http://203.0.113.7:8191",
    )
    tensor_codec: Literal["auto", "raw", "zlib", "zstd", "png", "fp16"] = Field(
        "auto",
        description="how other machines write tensors: raw, smaller (zstd, zlib; png for 8 bits), halved (fp16, "
        "loses digits)",
    )


class WebSettings(Group):
    """web"""

    SHORT: ClassVar[dict[str, str]] = {"listen": "-H"}
    #: Value of a flag that is given without one.
    BARE: ClassVar[dict[str, str]] = {"listen": ALL_ADDRESSES, "enable_cors_header": "*"}

    listen: str = Field("127.0.0.1", description="addresses to serve, comma separated; bare: all")
    port: int = Field(8188, ge=0, le=65535, description="0: any free one")
    enable_cors_header: str | None = Field(None, description="allow this other origin; bare: any")
    max_upload_size: float = Field(100, gt=0, description="largest upload in MB")
    tls_keyfile: Path | None = Field(None, description="serve HTTPS with this key (and certificate)")
    tls_certfile: Path | None = Field(None, description="its certificate")
    front_end_root: Path | None = Field(None, description="serve the page from this folder instead")
    multi_user: bool = Field(False, description="keep settings and user files apart by user")
    auto_launch: bool = Field(False, description="open the page in a browser")


class AccessSettings(Group):
    """access"""

    #: The name for one of them.
    SHORT: ClassVar[dict[str, str]] = {"api_keys": "--api-key"}
    REPEATED: ClassVar[frozenset[str]] = frozenset({"api_keys"})

    api_keys: Secrets = Field(
        (),
        description="who may ask: KEY, USER:KEY, USER:KEY:admin, or @FILE with one a line; comma separated, or "
        "given again",
    )
    jwt_key: SecretStr | None = Field(
        None, description="admit who has a JWT signed with this: a public key in PEM, a secret for HS…, or @FILE"
    )
    jwt_algorithm: Literal[
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
        "HS256", "HS384", "HS512",
    ] = Field("RS256", description="the one algorithm that signs them")  # fmt: skip
    jwt_audience: str | None = Field(None, description="they must be for this audience")
    jwt_issuer: str | None = Field(None, description="they must be of this issuer")


class WebhookSettings(Group):
    """webhooks"""

    webhook_secret: SecretStr | None = Field(
        None, description="send webhooks, signed with this secret: whsec_ and 24 to 64 bytes in base64, or @FILE"
    )
    allow_private_webhooks: bool = Field(False, description="send them to private addresses too")


class EngineSettings(Group):
    """engine"""

    #: Value of a flag that is given without one.
    BARE: ClassVar[dict[str, str]] = {"cache_ram": "4"}

    engine: EngineChoice | None = Field(
        None,
        description="graph; comfyui, a stock ComfyUI started from --comfyui-dir; or the address of a running one "
        "(default: graph, or comfyui where --comfyui-dir is given)",
    )
    # Their variables do not repeat the prefix: COMFYUI_DIR.
    comfyui_dir: Path | None = Field(
        None, validation_alias="comfyui_dir", description="folder of the stock ComfyUI, the one with main.py"
    )
    comfyui_python: Path | None = Field(
        None,
        validation_alias="comfyui_python",
        description="Python to start it with (default: that of a .venv or venv there, else this one)",
    )
    comfyui_arguments: Words = Field(
        (),
        validation_alias="comfyui_arguments",
        description="more arguments for it; what follows -- on the command line is added",
    )
    engine_token: SecretStr | None = Field(None, description="bearer token for an engine given by its address")
    devices: str | None = Field(
        None,
        pattern=r"^(cpu|\d+)(,(cpu|\d+))*$",
        description="numbers of GPUs, or cpu, comma separated: an engine each (default: every visible GPU)",
    )
    cpu: bool = Field(False, description="execute on the CPU even if there is a GPU")
    cuda_device: int | None = Field(None, ge=0, description="number of the one GPU to execute on")
    cache_lru: int | None = Field(
        None, ge=1, description="keep the outputs of so many nodes, least recently used first out"
    )
    cache_none: bool = Field(False, description="keep no outputs: least memory, every node is executed each time")
    cache_ram: float | None = Field(
        None, gt=0, description="keep outputs while so many GB of main memory are free; bare: 4"
    )
    panic_when: Names = Field(
        (), description="exceptions, comma separated, after which the engine is replaced before the next job"
    )
    disable_metadata: bool = Field(False, description="save images without prompt and workflow in them")
    allow_remote_host: Hosts = Field(
        (),
        description="HOST or HOST:PORT of private networks, this machine's included, that workflows may reach by "
        "http; comma separated (default: public addresses only)",
    )
    remote_keys: Path | None = Field(
        None, description="file with a line ADDRESS KEY for each frontend that Remote nodes need a key for"
    )
    interrupt_grace: Duration = Field(
        10.0, gt=0, description="how long an interrupted node may go on before its engine is replaced"
    )


class WorkerSettings(Group):
    """worker"""

    worker_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]{1,40}$",
        description="its name in messages (default: host name and device)",
    )
    worker_tags: Names = Field((), description="what prompts may ask for, comma separated (requirements.tags)")
    call_timeout: Duration | None = Field(
        None, description="give up a part of a prompt that another worker takes longer for (default: never)"
    )
    drain_timeout: Duration | None = Field(
        None, description="when told to stop, give a job back after this long (default: finish it)"
    )
    legion_idle_timeout: Duration = Field(
        600.0, gt=0, description="end a Legion workflow's own process when nobody has used it for this long"
    )
    allow_comfyui_dir: Names = Field(
        (), description="folders of ComfyUIs that Legion configurations may name, comma separated"
    )
    allow_python: Names = Field((), description="and Pythons to start these with, comma separated")


class LocalWorkerSettings(Group):
    """worker"""

    manage_local_workers: bool = Field(
        False, description="start and keep running a worker for each further GPU of this machine (docs/workers.md)"
    )


class HealthSettings(Group):
    """worker"""

    health_port: int = Field(9090, ge=0, le=65535, description="GET /health answers here; 0: any free one")


class LoggingSettings(Group):
    """logging"""

    SHORT: ClassVar[dict[str, str]] = {"verbose": "-v"}

    logging_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="least serious messages shown"
    )
    log_format: Literal["text", "json"] = Field("text", description="lines for people or for machines")
    verbose: bool = Field(False, description="debug messages, and tracebacks of errors")


class ServerSettings(Group):
    """server"""

    server: WebAddress = Field("http://127.0.0.1:8188", description="the frontend to talk to, or any ComfyUI")
    token: SecretStr | None = Field(None, description="API key or JWT for it, or @FILE that holds one")


class ResultSettings(Group):
    """results"""

    output: Path | None = Field(None, description="save the results in this folder; without it they stay there")


class RunSettings(Group):
    """run"""

    repeat: int = Field(1, ge=1, description="submit each workflow so many times")
    seed_step: int = Field(1, description="what each repetition adds to the inputs seed and noise_seed")
    workers: Names = Field(
        (), description="share its work out among these, comma separated (default: as the server is configured)"
    )
    participation: Literal["participating", "orchestrator-only", "fallback"] | None = Field(
        None, description="whether the worker that has the prompt does a part itself (default: the same)"
    )
    each: bool = Field(False, description="run it once on every worker, or on those, each with the next seed")


class HistorySettings(Group):
    """history"""

    max_items: int = Field(20, ge=1, description="show the newest so many")


class MessageSettings(Group):
    """messages"""

    SHORT: ClassVar[dict[str, str]] = {"verbose": "-v"}

    verbose: bool = Field(False, description="show tracebacks of errors")


class BarSettings(Group):
    """messages"""

    progress: bool = Field(True, description="show bars while prompts run, on a terminal")


class ComfyuiClientSettings(
    BarSettings, MessageSettings, HistorySettings, ResultSettings, RunSettings, ServerSettings
):
    """Settings of `comfyui-client`."""


class ComfyuiWorkerSettings(
    LoggingSettings,
    HealthSettings,
    WorkerSettings,
    EngineSettings,
    TensorSettings,
    WorkerFileSettings,
    FileSettings,
    WorkspaceSettings,
    QueueSettings,
):
    """Settings of `comfyui-worker`."""


class ComfyuiSettings(
    LoggingSettings,
    LocalWorkerSettings,
    WorkerSettings,
    EngineSettings,
    WebhookSettings,
    AccessSettings,
    WebSettings,
    TensorSettings,
    FileSettings,
    WorkspaceSettings,
    FrontendQueueSettings,
    QueueSettings,
):
    """Settings of `comfyui`."""
