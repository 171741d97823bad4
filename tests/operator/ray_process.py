"""A real Ray head with its dashboard, in a process of its own: run as `python -m`, it lives until its stdin is closed.

Started by `real_ray.py`. Apart because Ray takes over the process that starts it, and because the token that guards
the Jobs API must be in the environment before Ray is imported.
"""

from __future__ import annotations

import functools
import sys

import ray
from ray._private import parameter

ANY_PORT = 0


def main(dashboard_port: int, folder: str) -> None:
    """Start a head, say so in one line, and stop it when nobody holds the other end of stdin."""
    # The agent takes submissions. Another Ray on this host may use its default port, and `init` has no option for it.
    parameter.RayParams = functools.partial(parameter.RayParams, dashboard_agent_listen_port=ANY_PORT)
    ray.init(
        num_cpus=1,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=dashboard_port,
        log_to_driver=False,
        _temp_dir=folder,
    )
    print("ready", flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
