"""A real Ray head with its dashboard. The script runs until its stdin is closed.

`real_ray.py` starts it in a process of its own, because Ray changes the process that starts it. The token of the Jobs
API must also be in the environment before Ray is imported.
"""

from __future__ import annotations

import functools
import sys

import ray
from ray._private import parameter

ANY_PORT = 0


def main(dashboard_port: int, folder: str) -> None:
    """Start a head, print `ready`, and stop the head when stdin is closed."""
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
