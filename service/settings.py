"""Every setting of the service, with unit, bound and default. Where they come from: `service/configuration.py`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.ingest.address import parse as parse_address
from service.machine_cpus import default_threads

ENV_PREFIX = "AFTERIMAGE_"
EVERYWHERE = ("0.0.0.0", "::")
"""Hosts that stand for all addresses of a machine."""

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
StreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def _bytes(value: object) -> object:
    """Bytes of a text such as "8 MiB"; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return int(TypeAdapter(ByteSize).validate_python(value))
    except ValidationError:
        raise ValueError(f"expected bytes, or a size such as 8 MiB, got {value[:80]!r}") from None


AS_SIZE = BeforeValidator(_bytes)
Bytes = Annotated[int, AS_SIZE]
MQTT_TOPIC = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$"
_Side = Annotated[int, Field(ge=8, le=8192)]


class ModelSource(BaseModel):
    """Where a model comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(
        description="ONNX file, or the name of a model that `afterimage models list` shows",
    )
    spec: Path | None = Field(
        default=None,
        description="TOML specification; None: the one beside the file, or guessed",
    )
    size: tuple[_Side, _Side] | None = Field(
        default=None,
        description="width and height of the network's input, pixels; None: the model's own",
    )


class CameraSource(BaseModel):
    """A camera on the network that the server watches by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: SecretStr = Field(
        description="its address: rtsp, rtsps, http or https, with user and password where it wants them; or file:///...",
    )
    model: ModelName | None = Field(
        default=None,
        description="model that it is shown to; None: the default one",
    )
    max_fps: float | None = Field(
        default=10.0,
        gt=0,
        le=1000,
        description="frames a second that are computed, at most; None: as many as it sends",
    )
    min_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="weaker results are left out; None: the model's own",
    )
    transport: Literal["tcp", "udp"] = Field(
        default="tcp",
        description="how RTSP carries pictures: tcp loses none; udp is for cameras that cannot do otherwise",
    )
    stall_s: float = Field(
        default=2.5,
        ge=0.5,
        le=600,
        description="without a picture for so long the camera counts as stalled, and is connected to anew, seconds",
    )
    open_s: float = Field(
        default=15.0,
        ge=1,
        le=600,
        description="wait for the first picture after connecting, seconds",
    )

    @field_validator("url")
    @classmethod
    def _url_is_an_address(cls, url: SecretStr) -> SecretStr:
        parse_address(url.get_secret_value())  # its ValueError says what is wrong, and no password
        return url


class _Layers(PydanticBaseSettingsSource):
    """Arguments over the environment, each key whole: pydantic would mix the maps of both."""

    def __init__(self, settings: type[BaseSettings], *layers: PydanticBaseSettingsSource) -> None:
        super().__init__(settings)
        self._layers = layers

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for layer in reversed(self._layers):
            merged |= layer()
        return merged


class Settings(BaseSettings):
    """Settings of one server process. Arguments win over the environment, where maps and lists are JSON."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (_Layers(settings_cls, init_settings, env_settings),)

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=255,
        description="address to listen on",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="TCP port to listen on; 0: any free one",
    )
    models: dict[ModelName, ModelSource] = Field(
        default_factory=dict,
        description="models by name; none: the built-in one",
    )
    default_model: ModelName | None = Field(
        default=None,
        description="model for requests that name none; None: first",
    )
    exact: bool = Field(
        default=False,
        description="thresholds zero: results bit-identical to a full recompute",
    )

    precision: Literal["fast", "strict"] = Field(
        default="fast",
        description="fast: Winograd's method and Fourier transforms where they pay; strict: every product directly",
    )
    cache_dtype: Literal["float32", "float16"] = Field(
        default="float32",
        description="float16 keeps feature maps in half the memory",
    )
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="bfloat16 multiplies in it where the CPU can and it pays",
    )
    fft_kept: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of frequencies kept where large filters are computed by transforms; 0: none computed so",
    )

    sources: dict[StreamName, CameraSource] = Field(
        default_factory=dict,
        max_length=256,
        description="cameras that the server watches by itself, by the id of their stream (docs/cameras.md)",
    )

    workers: int = Field(
        default_factory=default_threads,
        json_schema_extra={"shown_default": "as many as the machine or container has cores, 8 at most"},
        ge=1,
        le=64,
        description="inference threads: streams that are computed at the same time",
    )
    threads: int = Field(
        default_factory=default_threads,
        json_schema_extra={"shown_default": "as many as the machine or container has cores, 8 at most"},
        ge=1,
        le=64,
        description="cores that one frame may use while no other frame is under way",
    )
    audit_share: float = Field(
        default=0.02,
        ge=0,
        le=0.5,
        description="most of one core's time, when idle, for comparing frames of streams with dense ones; 0: never",
    )
    audit_confidence: float = Field(
        default=0.95,
        ge=0.5,
        le=0.9999,
        description="of the bounds on the error that audits tell",
    )
    max_streams: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="streams open at once, with or without a connection",
    )
    max_models: int = Field(
        default=16,
        ge=1,
        le=256,
        description="models registered at once",
    )
    model_folder: Path | None = Field(
        default=None,
        description="folder whose ONNX files may be loaded by name while the server runs; None: none but those known",
    )
    deepstack_labels: dict[str, str] = Field(
        default_factory=lambda: {"vehicle": "car"},
        max_length=256,
        description="labels that /v1/vision tells by another name, as its clients know COCO's",
    )
    window: int = Field(
        default=2,
        ge=1,
        le=64,
        description="frames of a stream that may be unacknowledged",
    )
    outbox_messages: int = Field(
        default=8,
        ge=2,
        le=1024,
        description="messages that wait to be sent before a connection is no longer read",
    )
    detect_queue: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="requests of POST /v1/detect that wait, per model",
    )

    max_fps: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="frames a second that are computed of any stream, at most; None: no limit but the client's own",
    )
    idle_after_s: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="without change for so long a stream is idle, and only its `idle_fps` are looked at, seconds",
    )
    group_frames: int = Field(
        default=4,
        ge=1,
        le=64,
        description="frames of several streams of a model that are computed together where that is faster; 1: never",
    )
    admission: bool = Field(
        default=True,
        description="refuse a new stream (1013, 503) that workers or memory would be too little for",
    )
    useful_fps: float = Field(
        default=5.0,
        gt=0,
        le=1000,
        description="frames a second that a stream without a max_fps of its own is promised when it is admitted",
    )
    headroom: float = Field(
        default=0.15,
        ge=0,
        le=0.9,
        description="share of the workers' time that stays free when a stream is admitted",
    )
    cache_bytes: Bytes | None = Field(
        default=None,
        ge=1 << 20,
        description="models and what streams have cached, at most; None: half of the machine's or container's memory,"
        " and less where that would leave less than 256 MiB",
    )

    max_message_bytes: Bytes = Field(
        default=8 << 20,
        ge=1 << 10,
        le=256 << 20,
        description="largest WebSocket message or request body, bytes",
    )
    max_pixels: int = Field(
        default=4096 * 4096,
        ge=64,
        le=1 << 28,
        description="largest image, pixels, by its header, before it is decoded",
    )
    jpeg_quality: int = Field(
        default=85,
        ge=1,
        le=100,
        description="quality of annotated JPEGs",
    )
    tiles: bool = Field(
        default=True,
        description="whether clients may send only the tiles of a frame that changed; what a connection then keeps for"
        " it is at most twice max_pixels of 3 bytes, and two largest messages",
    )
    tile_difference_levels: float = Field(
        default=5.0,
        ge=0.5,
        le=32.0,
        description="mean difference of a tile's values from which clients that send tiles send it, levels of 0 to 255:"
        " less shows fainter things and takes more of the line",
    )
    track_lost_s: float = Field(
        default=2.0,
        ge=0.1,
        le=60,
        description="how long an object that is not seen keeps its id, where ids are asked for, seconds",
    )

    view_fps: float = Field(
        default=15.0,
        gt=0,
        le=60,
        description="pictures a second of an MJPEG of a stream, at most",
    )
    view_idle_s: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="without a frame for so long an MJPEG ends, seconds",
    )
    view_keep_bytes: Bytes = Field(
        default=64 << 20,
        ge=1 << 20,
        le=1 << 40,
        description="last frames of streams that are kept for snapshots, decoded, of all streams together, bytes",
    )
    max_viewers: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="who looks at pictures of streams at once, in all",
    )
    max_viewers_per_stream: int = Field(
        default=8,
        ge=1,
        le=4096,
        description="who looks at one stream's pictures at once",
    )

    anonymous_streams: bool | None = Field(
        default=None,
        description="streams and requests without token or key; None: only on loopback, and without keys_file",
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(),
        max_length=64,
        description="origins beside the server's own, such as https://cam.example",
    )

    lan: bool = Field(
        default=False,
        description="serve https to phones of this network, let in by a code that the terminal shows; see --lan",
    )
    join_code_s: float = Field(
        default=600.0,
        ge=10,
        le=86_400,
        description="how long a code to join is valid, seconds",
    )
    join_key_s: float = Field(
        default=43_200.0,
        ge=60,
        le=31_536_000,
        description="how long a device that joined is let in, seconds",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="certificate chain to serve https with, PEM; None: with `lan` one of our making, else plain http",
    )
    tls_key: Path | None = Field(
        default=None,
        description="private key of `tls_certificate`, PEM without a password",
    )

    keys_file: Path | None = Field(
        default=None,
        description="API keys, as `afterimage keys add` writes them; None: no keys",
    )
    max_auth_failures_per_min: float = Field(
        default=30.0,
        gt=0,
        le=6000,
        description="wrong keys and tokens of a peer that are answered and logged as such",
    )
    max_request_rate: float = Field(
        default=200.0,
        gt=0,
        le=100_000,
        description="HTTP requests and handshakes per second of a key, or of a peer without one",
    )
    max_streams_per_key: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="streams open at once that one key has made",
    )
    max_greeting: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="WebSocket connections that have not said hello yet",
    )
    max_connections: int = Field(
        default=1024,
        ge=1,
        le=65_536,
        description="TCP connections at once",
    )
    max_connections_per_peer: int = Field(
        default=256,
        ge=1,
        le=65_536,
        description="TCP connections of one address (IPv6: of one /64 network), trusted proxies excepted",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=("127.0.0.1", "::1"),
        max_length=64,
        description="addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed",
    )
    header_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="wait for a request's whole head, seconds",
    )
    body_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="wait for a request's body, seconds; more by what has come, at min_body_rate",
    )
    min_body_rate: int = Field(
        default=16 << 10,
        ge=64,
        le=1 << 30,
        description="slowest body that is waited for, B/s",
    )

    hello_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="wait for a client's hello, seconds",
    )
    send_timeout_s: float = Field(
        default=20.0,
        gt=0,
        le=300,
        description="wait for a client to take a message, seconds",
    )
    detect_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=600,
        description="wait for a result of /v1/detect, seconds",
    )
    resume_s: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="how long a stream without a connection keeps its cache, seconds",
    )
    state_folder: Path | None = Field(
        default=None,
        description="folder of this server alone, in which streams that have a token outlive a restart; None: none do",
    )
    cluster_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="first TCP port for members of a cluster, each listens on the first free one; None: any free one",
    )
    cluster_advertise: str | None = Field(
        default=None,
        max_length=2048,
        description="how clients reach a member of a cluster, with {host} and {port} in the place of its own; "
        "None: its machine's address",
    )
    max_resume_s: float = Field(
        default=3600.0,
        ge=0,
        le=86_400,
        description="longest `resume_s` that a stream may ask for, seconds; below `resume_s`: that",
    )
    drain_s: float = Field(
        default=5.0,
        gt=0,
        le=300,
        description="time for frames under way at shutdown, seconds",
    )
    retry_after_ms: int = Field(
        default=1000,
        ge=0,
        le=600_000,
        description="retry hint at shutdown and overload, ms",
    )
    ping_s: float = Field(
        default=20.0,
        gt=0,
        le=600,
        description="interval and timeout of WebSocket pings, seconds",
    )

    metrics: Literal["open", "infer", "admin", "off"] = Field(
        default="infer",
        description="who may read /metrics: anybody, whoever may have frames computed, administrators, nobody",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="text: lines for people; json: one object for each entry",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="least level of the service's own log entries",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        max_length=2048,
        description="OpenTelemetry collector that takes spans over HTTP, such as http://127.0.0.1:4318; None: no spans",
    )
    trace_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of the frames that spans are made of",
    )

    mqtt_host: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="MQTT broker that learns what streams see (docs/mqtt.md); None: none",
    )
    mqtt_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="its TCP port; None: 1883, or 8883 with TLS",
    )
    mqtt_tls: bool = Field(
        default=False,
        description="speak TLS with the broker, and check its certificate and name",
    )
    mqtt_ca_file: Path | None = Field(
        default=None,
        description="certificates of the authorities that the broker's is checked against; None: the system's",
    )
    mqtt_username: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="name to log in at the broker with; None: none",
    )
    mqtt_password_file: Path | None = Field(
        default=None,
        description="file that holds the password; None: AFTERIMAGE_MQTT_PASSWORD, if it is set",
    )
    mqtt_topic: str = Field(
        default="afterimage",
        pattern=MQTT_TOPIC,
        max_length=128,
        description="topic below which everything is published; of each server of a broker another",
    )
    mqtt_discovery_topic: str | None = Field(
        default="homeassistant",
        pattern=MQTT_TOPIC,
        max_length=128,
        description="topic on which Home Assistant learns of devices; None: it is told nothing",
    )
    mqtt_streams: tuple[str, ...] = Field(
        default=("*",),
        max_length=256,
        description="streams that are published, by id; * and ? stand for anything",
    )
    mqtt_occupancy: tuple[str, ...] = Field(
        default=("person",),
        max_length=16,
        description="labels whose presence Home Assistant gets as occupancy",
    )
    mqtt_rate: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="messages a second about what a stream sees, at most",
    )
    mqtt_heartbeat_s: float = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="without a change a stream's state is published after so long, seconds",
    )
    mqtt_snapshot_s: float | None = Field(
        default=None,
        ge=1,
        le=3600,
        description="publish a picture of each stream every so often, seconds; None: no pictures",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _endpoint_is_http(cls, endpoint: str | None) -> str | None:
        scheme, separator, rest = (endpoint or "http://-").partition("://")
        if not separator or scheme not in ("http", "https") or not rest.strip("/"):
            raise ValueError(f'expected an endpoint such as "http://127.0.0.1:4318", got {endpoint!r}')
        if "@" in rest.partition("/")[0]:  # it would be written to the log with every failure
            raise ValueError("otlp_endpoint: expected no password in it; OTEL_EXPORTER_OTLP_HEADERS takes one")
        return endpoint

    @field_validator("cluster_advertise")
    @classmethod
    def _members_have_addresses(cls, address: str | None) -> str | None:
        example = 'expected an address such as "https://{host}:{port}"'
        try:
            parts = urlsplit("" if address is None else address.format(host="10.0.0.7", port=8100))
        except (IndexError, KeyError, ValueError):
            raise ValueError(f"{example}, got {address!r}") from None
        if address is not None and (
            parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/")
        ):
            raise ValueError(f"{example}, got {address!r}")
        return address

    @field_validator("allowed_origins")
    @classmethod
    def _origins_are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            scheme, separator, rest = origin.partition("://")
            if not separator or scheme not in ("http", "https") or not rest or "/" in rest:
                raise ValueError(f'expected an origin such as "https://cam.example:8443", got {origin!r}')
        return tuple(origin.lower() for origin in origins)

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ipaddress.ip_network(proxy)  # its ValueError says what is wrong
        return proxies

    @model_validator(mode="after")
    def _default_model_exists(self) -> Self:
        if self.default_model is not None and self.models and self.default_model not in self.models:
            raise ValueError(f"default_model: expected one of {', '.join(self.models)}, got {self.default_model!r}")
        if len(self.models) > self.max_models:
            raise ValueError(f"models: expected at most {self.max_models}, got {len(self.models)}")
        return self

    @model_validator(mode="after")
    def _sources_can_be_streams(self) -> Self:
        if len(self.sources) > self.max_streams:
            raise ValueError(f"sources: expected at most {self.max_streams} by max_streams, got {len(self.sources)}")
        for name, source in self.sources.items():
            if self.models and source.model is not None and source.model not in self.models:
                known = ", ".join(self.models)
                raise ValueError(f"sources.{name}.model: expected one of {known}, got {source.model!r}")
        return self

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate, tls_key: expected both or none")
        return self

    @property
    def secure(self) -> bool:
        """Whether the server itself speaks https."""
        return self.lan or self.tls_certificate is not None

    @property
    def anonymous_allowed(self) -> bool:
        """Whether a stream may be made by connecting, without a token; where there are keys, `service.access` asks for
        more."""
        return is_loopback(self.host) if self.anonymous_streams is None else self.anonymous_streams


def is_loopback(host: str) -> bool:
    """Whether a listening address can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
