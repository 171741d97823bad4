"""A long storm on the local cluster, with the operator of this checkout.

python -m tests.e2e.chaos --seed 1 --minutes 30 --workflows 20
"""

from __future__ import annotations

import argparse
import sys
import time

from dev import cluster
from dev import release as dev_release
from dev.console import print_line
from tests.e2e.bucket import MARKS, Bucket
from tests.e2e.chaos.storm import Plan, run
from tests.e2e.histories import Histories
from tests.e2e.kubectl import Kubectl
from tests.e2e.namespace import FLOWS, WorkflowNamespace
from tests.e2e.release import RELEASE_NAMESPACE, install, remove, until_removed

NAMESPACE = "e2e-chaos"


def main() -> int:
    """Return the exit code: 1 if something was lost, committed twice, stuck, left over or harmed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workflows", type=int, default=20)
    parser.add_argument("--waves", type=int, default=40)
    parser.add_argument("--own-clusters", type=int, default=6)
    parser.add_argument("--pause", type=float, default=15.0)
    options = parser.parse_args()
    plan = Plan(
        options.seed,
        options.workflows,
        options.waves,
        60 * options.minutes,
        options.pause,
        own_clusters=options.own_clusters,
    )
    print_line(str(plan))
    kubectl = Kubectl(cluster.up())
    remove(kubectl, [NAMESPACE])
    until_removed(kubectl, [NAMESPACE])
    release = install(kubectl, [NAMESPACE])
    with dev_release.storage(kubectl, RELEASE_NAMESPACE) as storage:
        dev_release.make_bucket(storage, MARKS)
        dev_release.make_secret(kubectl, NAMESPACE, storage)
        bucket = Bucket(kubectl, storage)
        with Histories(kubectl, NAMESPACE).watching() as histories:
            namespace = WorkflowNamespace(kubectl, release, bucket, histories, NAMESPACE)
            namespace.code("flows", {"flows.py": FLOWS})
            report = run(namespace, plan, print_line)
        bucket.close()
    print_line(str(report))
    remove(kubectl, [NAMESPACE])
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
