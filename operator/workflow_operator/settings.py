"""The operator's settings: environment variables, which the chart sets, and a few command-line flags.

`main.py` reads them once. The name of each variable is `RAYWORKFLOW_` and the field's name in capitals.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from workflow_operator.core.observation import DEFAULT_POLL_SECONDS, Defaults

PREFIX = "RAYWORKFLOW_"


def _split_commas(value: object) -> object:
    return tuple(filter(None, (word.strip() for word in value.split(",")))) if isinstance(value, str) else value


class Settings(BaseModel):
    """The operator's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    namespaces: Annotated[tuple[str, ...], BeforeValidator(_split_commas)] = ()
    """Namespaces whose Workflows are served, separated by commas. If empty, the operator serves the whole cluster."""
    operator_namespace: str = "default"
    """The operator's own namespace. It contains the lease and the ConfigMaps of deferred cleanups."""
    identity: str = "rayworkflow-operator"
    """This replica's name in the lease. The chart sets it to the pod's name."""
    kubeconfig: str = ""
    """File with the API server's address and credentials. If empty, the pod's service account is used."""
    storage_uri: str = ""
    """Storage of Workflows without `spec.storage`, for example s3://bucket/prefix; empty if each must name its own."""
    storage_endpoint: str = ""
    """URL of the storage server. If empty, AWS is used."""
    storage_region: str = ""
    """Region of the storage."""
    storage_secret: str = ""
    """Secret with the storage's credentials, in each Workflow's own namespace."""
    poll_seconds: Annotated[float, Field(gt=0)] = DEFAULT_POLL_SECONDS
    """Longest time between two reads of a running Workflow's log and submission, in seconds."""
    head_address: str = "http://{ip}:8265"
    """Template of a head's dashboard URL; may contain {ip}, {cluster} and {namespace}."""
    library: Path = Path("/opt/rayworkflow")
    """Folder with the library's dependencies. It is filled when the image is built."""
    host: str = ""
    """Address that probes and metrics are served at. If empty, all addresses of IPv4 and IPv6."""
    port: int = 8080
    """Port of probes and metrics. If 0, any free port is used."""
    leader_election: bool = True
    """Whether replicas elect a leader by a lease. Disable it only if there is a single replica at any time."""
    lease_name: str = "rayworkflow-operator"
    """Name of the lease."""
    lease_seconds: Annotated[int, Field(ge=3)] = 15
    """Duration of the lease in seconds. If the leader does not renew it for this long, another replica takes over.
    The leader itself stops after two thirds of it, and becomes a candidate again."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest severity that is logged."""
    log_format: Literal["json", "text"] = "json"
    """Format of the logs: one JSON object per line, or text for people."""

    @property
    def defaults(self) -> Defaults:
        """Return the settings that decisions depend on."""
        return Defaults(
            storage_uri=self.storage_uri,
            storage_endpoint=self.storage_endpoint,
            storage_region=self.storage_region,
            storage_secret=self.storage_secret,
            poll_seconds=self.poll_seconds,
        )


def read_settings(environment: Mapping[str, str], arguments: Sequence[str]) -> Settings:
    """Read the settings of this process.

    Args:
        environment: the environment variables.
        arguments: the command line, without the program's name. Flags override variables.

    Raises:
        SystemExit: a variable or a flag is invalid; the text names it and the reason.
    """
    parser = argparse.ArgumentParser(prog="workflow_operator", description="Runs Workflows on Ray clusters.")
    parser.add_argument("--namespace", action="append", default=[], help="serve only this namespace; can be repeated")
    parser.add_argument("--kubeconfig", default="", help="file with the API server's address and credentials")
    flags = parser.parse_args(arguments)
    names = {f"{PREFIX}{field.upper()}": field for field in Settings.model_fields}
    values: dict[str, object] = {names[name]: text for name, text in environment.items() if name in names}
    if flags.namespace:
        values["namespaces"] = tuple(flags.namespace)
    if flags.kubeconfig:
        values["kubeconfig"] = flags.kubeconfig
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        invalid = [f"{PREFIX}{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors(include_url=False)]
        raise SystemExit("invalid settings: " + "; ".join(invalid)) from error
