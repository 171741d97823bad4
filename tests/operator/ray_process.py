"""A real Ray head with its dashboard, in a process of its own: run as `python -m`, it lives until its stdin is closed.

Started by `real_ray.py`. Apart because Ray takes over the process that starts it, and because the token that guards
the Jobs API must be in the environment before Ray is imported.
"""

from __future__ import annotations

import sys

import ray


def main(dashboard_port: int, folder: str) -> None:
    """Start a head, say so in one line, and stop it when nobody holds the other end of stdin."""
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
