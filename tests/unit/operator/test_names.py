"""The names that the operator assigns: valid for KubeRay, DNS and labels, and derived from the Workflow alone."""

from __future__ import annotations

import re

import pytest

from tests.unit.operator.build import UID
from workflow_operator.api import GROUP
from workflow_operator.core import names

RUN_UUID, CLEANUP = "a0bf9fc0-1359-5a9c-bf1f-3741d323b76f", "rayworkflow-cleanup-ad178abde436f532"
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("trip", "trip-9f3c1a2b00-2", id="plain"),
        pytest.param("a" * 253, "a" * 24 + "-9f3c1a2b00-2", id="long"),
        pytest.param("2026.report", "w2026-report-9f3c1a2b00-2", id="leading digit and dots"),
        pytest.param("a" * 23 + "-b", "a" * 23 + "-9f3c1a2b00-2", id="cut at a dash"),
    ],
)
def test_cluster_name(name: str, expected: str) -> None:
    created = names.cluster_name(name, UID, 2)
    assert created == expected
    assert DNS_1035.fullmatch(created)


def test_cluster_name_fits_kuberay_for_any_attempt() -> None:
    """KubeRay 1.6 refuses longer names, because it appends suffixes such as `-head-svc` and pod hashes to them."""
    assert len(names.cluster_name("x" * 253, UID, 10**9)) <= 53


@pytest.mark.parametrize("uid", ["", "ZZ", "9F3C1A2B"], ids=["empty", "no hex", "upper case"])
def test_short_uid_has_forty_bits_for_any_uid(uid: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{10}", names.short_uid(uid))


def test_ids_differ_by_workflow_attempt_and_run() -> None:
    created = {names.submission_id(uid, attempt) for uid in ("a", "b") for attempt in (1, 2)}
    created |= {names.run_uuid(uid, n) for uid in ("a", "b") for n in (1, 2)}
    assert len(created) == 8
    assert names.run_uuid("a", 1) == names.run_uuid("a", 1)


def test_labels_are_valid_for_long_names_and_avoid_ray_io() -> None:
    labels = names.cluster_labels("x" * 62 + ".y" * 30, UID, 3)
    assert "ray.io/cluster" not in labels
    assert all(re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value) for value in labels.values())
    assert names.attempt_of(labels) == 3


@pytest.mark.parametrize("text", ["", "one", "-1", "²"], ids=["absent", "a word", "negative", "superscript"])
def test_invalid_attempt_label_counts_as_zero(text: str) -> None:
    assert names.attempt_of({names.ATTEMPT_LABEL: text}) == names.attempt_of({}) == 0


def test_labels_name_the_workflow_and_its_attempt() -> None:
    assert names.cluster_labels("trip", UID, 2) == {
        "app.kubernetes.io/name": "rayworkflow",
        "app.kubernetes.io/instance": "trip",
        "app.kubernetes.io/component": "cluster",
        "app.kubernetes.io/managed-by": "rayworkflow-operator",
        f"{GROUP}/workflow": "trip",
        f"{GROUP}/workflow-uid": UID,
        f"{GROUP}/attempt": "2",
    }


def test_names_stay_the_same_after_an_upgrade_of_the_operator() -> None:
    """An operator finds by them what an older one created. Another value would create everything a second time."""
    assert names.run_uuid(UID, 1) == RUN_UUID
    assert names.submission_id(UID, 1) == f"rwf-{UID}-1"
    assert names.cleanup_name(UID, 1) == CLEANUP
    assert names.default_workflow_id("team", "trip", UID) == f"team.trip.{UID}"
    fixed = {names.FINALIZER, names.TEMPLATE_LABEL, names.RESUME_ANNOTATION}
    assert fixed == {f"{GROUP}/finalizer", f"{GROUP}/template", f"{GROUP}/resume"}
