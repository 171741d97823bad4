"""What the operator is told when it starts: environment variables, as the chart sets them, and a few flags.

Read once by `main.py`. Every variable is `RAYWORKFLOW_` and the field's name in capitals.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from workflow_operator.core.observation import DEFAULT_POLL_SECONDS, Defaults

PREFIX = "RAYWORKFLOW_"


def _words(value: object) -> object:
    return tuple(filter(None, (word.strip() for word in value.split(",")))) if isinstance(value, str) else value


class Settings(BaseModel):
    """The operator's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    namespaces: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """Namespaces to serve, separated by commas; none: all of the cluster."""
    home: str = "default"
    """The operator's own namespace: its lease and its noted debts lie there."""
    identity: str = "rayworkflow-operator"
    """This replica's name, as the lease holds it; the pod's name."""
    kubeconfig: str = ""
    """File with the API server's address and credentials; empty: the pod's service account."""
    storage_uri: str = ""
    """Storage of Workflows that name none, for example s3://bucket/prefix; empty: each must name its own."""
    storage_endpoint: str = ""
    """Its server, where it is not AWS."""
    storage_region: str = ""
    """Its region."""
    storage_secret: str = ""
    """Secret with its credentials, in each Workflow's own namespace."""
    poll_seconds: Annotated[float, Field(gt=0)] = DEFAULT_POLL_SECONDS
    """Pace at which a running Workflow's log and submission are looked at."""
    head_address: str = "http://{ip}:8265"
    """How a head's dashboard is reached; knows {ip}, {cluster} and {namespace}."""
    library: Path = Path("/opt/rayworkflow")
    """Folder with the library's dependencies, filled when the image was built."""
    host: str = "0.0.0.0"
    """Where probes and metrics are served."""
    port: int = 8080
    """Port of probes and metrics; 0: any free one."""
    leader_election: bool = True
    """Whether replicas agree by a lease who works; off only where there is never a second one."""
    lease: str = "rayworkflow-operator"
    """Name of that lease."""
    lease_seconds: Annotated[int, Field(ge=3)] = 15
    """A leader that was silent for this long is succeeded."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe of what is logged."""
    log_format: Literal["json", "text"] = "json"
    """How it is logged."""

    @property
    def defaults(self) -> Defaults:
        """What decisions depend on."""
        return Defaults(
            storage_uri=self.storage_uri,
            storage_endpoint=self.storage_endpoint,
            storage_region=self.storage_region,
            storage_secret=self.storage_secret,
            poll_seconds=self.poll_seconds,
        )


def read_settings(environment: Mapping[str, str], arguments: Sequence[str]) -> Settings:
    """The settings of this process.

    Args:
        environment: the environment variables.
        arguments: the command line, without the program's name; flags win.

    Raises:
        SystemExit: a variable or flag is wrong; the text says which and why.
    """
    parser = argparse.ArgumentParser(prog="workflow_operator", description="Runs Workflows on Ray clusters.")
    parser.add_argument("--namespace", action="append", default=[], help="serve this namespace only; may be repeated")
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
        wrong = [f"{PREFIX}{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors(include_url=False)]
        raise SystemExit("wrong settings: " + "; ".join(wrong)) from error
