"""Settings of the service, the workers and `coreset up`, from CORESET_* variables. Built in __main__ files only."""

import base64
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LogFormat = Literal["auto", "console", "json"]


class Settings(BaseSettings):
    """What service and workers share.

    Attributes:
        redis_url: where jobs and the queue are kept.
        storage: root of all results, a local folder or a URI that fsspec knows (s3://bucket/prefix).
        allowed_uris: what a spec may name: folders and prefixes such as s3://bucket/pools or https://, separated by
            commas. Empty is all but private networks; local files, too, unless the service listens beyond the loopback.
        log_format: `auto` is `console` at a terminal, else `json`, a line an event.
        log_level: of our own logs.
    """

    model_config = SettingsConfigDict(env_prefix="CORESET_", frozen=True)

    redis_url: str = "redis://127.0.0.1:6379/0"
    storage: str = "./data"
    allowed_uris: str = ""
    log_format: LogFormat = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class ServiceSettings(Settings):
    """Of the HTTP service.

    Attributes:
        host: the address to listen on. Without API keys the loopback alone, unless `open` says otherwise.
        api_keys: lines NAME SCOPES SHA256 (coreset.access.api_keys), or separated by `;`.
        api_keys_file: a file of more such lines, read at the start.
        open: without keys, listen on other addresses too: every caller that reaches them may do everything. For a
            network of your own.
        trusted_proxies: addresses and networks of reverse proxies, separated by commas, whose X-Forwarded-For and
            X-Forwarded-Proto are believed. Empty believes none: every caller could send these headers.
        rate_per_minute: requests a key may make, or an address without a valid one.
        max_open_jobs: jobs of a key that have not ended.
        max_spec_bytes: of the specs of a key's jobs, the ended ones too until they are deleted; 4 KiB at least each.
        max_waiting_tasks: no new job is taken while so many tasks wait.
        max_body_bytes: larger request bodies are refused with 413.
        redis_patience: tries, at most 2 s apart, before a lost Redis is answered with 503.
        check_seconds: how long a caller waits for a preflight before the answer is 503.
        reconcile_seconds: how often jobs are checked for lost tasks; 0 is never.
        webhook_secret: signs webhooks; `whsec_` and the base64 of 24 to 64 random bytes. Without it, specs with a
            webhook are refused.
        webhook_private: also send webhooks to hosts that are not of the public internet.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    api_keys: str = ""
    api_keys_file: Path | None = None
    open: bool = False
    trusted_proxies: str = ""
    rate_per_minute: int = Field(default=600, ge=1)
    max_open_jobs: int = Field(default=100, ge=1)
    max_spec_bytes: int = Field(default=256 * 1024 * 1024, ge=4096)
    max_waiting_tasks: int = Field(default=200_000, ge=1)
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)
    redis_patience: int = Field(default=2, ge=0)
    check_seconds: float = Field(default=50.0, ge=0, le=600)
    reconcile_seconds: float = Field(default=15.0, ge=0)
    webhook_secret: SecretStr | None = None
    webhook_private: bool = False

    @field_validator("webhook_secret")
    @classmethod
    def _whsec(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            key = base64.b64decode(value.get_secret_value().removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if not value.get_secret_value().startswith("whsec_") or not 24 <= len(key) <= 64:
            raise ValueError("write whsec_ and the base64 of 24 to 64 bytes: echo whsec_$(openssl rand -base64 32)")
        return value


class WorkerSettings(Settings):
    """Of a worker process.

    Attributes:
        lease_seconds: after a worker's death its task runs again when this time is over.
        stall_minutes: a task that does not get on for this long ends its process.
        loader_processes: processes that read and decode shards, beside the worker itself; 0 decodes in the worker.
    """

    lease_seconds: float = Field(default=60.0, ge=1)
    stall_minutes: float = Field(default=10.0, gt=0)
    loader_processes: int = Field(default=2, ge=0, le=256)


class StackSettings(Settings):
    """Of `coreset up`: everything on this machine.

    Attributes:
        redis_url: empty starts an embedded one.
        storage: empty is `data`.
        data: folder of results, Redis's files and logs.
    """

    redis_url: str = ""
    storage: str = ""
    data: Path = Path("./data")
    port: int = Field(default=8000, ge=0, le=65_535)
