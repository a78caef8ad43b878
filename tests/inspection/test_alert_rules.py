"""The alerts of docs/observability.md fire for what they are for, and end when it is over.

The rule of this module: promtool evaluates them, as Prometheus does.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.needs import need_command

DOCUMENT = Path(__file__).parents[2] / "docs" / "observability.md"
JOB = '{job="c2c"}'
SECONDS_A_DAY = 86_400

# What each series is like while all is well, a sample a minute.
QUIET = {
    f"up{JOB}": "1x119",
    f"process_start_time_seconds{JOB}": "1000x119",
    f"process_open_fds{JOB}": "100x119",
    f"process_max_fds{JOB}": "1024x119",
    'c2c_xds_streams{variant="sotw"}': "0x119",
    'c2c_xds_streams{variant="delta"}': "3x119",
    'c2c_instances{status="ready"}': "3x119",
    'c2c_instances{status="not_ready"}': "0x119",
    'c2c_instances{status="gone"}': "9x119",
    'c2c_instance_alarms{kind="envoy_away"}': "0x119",
    "c2c_instances_behind": "0x119",
    "c2c_instances_exposed": "0x119",
    'c2c_certificates{state="not_served"}': "0x119",
    "c2c_certificate_earliest_expiry_timestamp_seconds": f"{SECONDS_A_DAY}x119",
    'c2c_certificates_expiring{kind="ca"}': "0x119",
    "c2c_certificate_issue_failures_total": "4x119",
    "c2c_ca_rotation_waiting_instances": "0x119",
    'c2c_xds_nacks_total{type="LDS"}': "4x119",
    'c2c_changes_behind_total{stage="acked"}': "4x119",
    "c2c_store_failures_total": "4x119",
    'c2c_enrollments_refused_total{code="UNAUTHENTICATED"}': "4x119",
    'c2c_enrollments_refused_total{code="ALREADY_EXISTS"}': "0+1x119",
    'c2c_event_loop_lag_seconds_bucket{le="0.25"}': "0+600x119",
    'c2c_event_loop_lag_seconds_bucket{le="0.5"}': "0+600x119",
    'c2c_event_loop_lag_seconds_bucket{le="+Inf"}': "0+600x119",
}

# Minutes of trouble from the fifth on, and then none.
HELD = "0x4 1x{0} 0x60"
COUNTED = "4x4 5x80"

# For each alert the series that are different, the minute in which it fires and not one before
# that, and one in which it is over.
TROUBLES: dict[str, tuple[dict[str, str], int, int]] = {
    "ControlPlaneDown": ({f"up{JOB}": "1x4 0x20 1x60"}, 7, 27),
    "ControlPlaneRestarts": (
        {f"process_start_time_seconds{JOB}": "1000x4 1300x1 1400x1 1500x80"},
        9,
        50,
    ),
    "NobodyIsConnected": ({'c2c_xds_streams{variant="delta"}': "3x4 0x20 3x60"}, 7, 27),
    "InstanceAlarm": ({'c2c_instance_alarms{kind="envoy_away"}': HELD.format(20)}, 7, 27),
    "InstancesBehind": ({"c2c_instances_behind": HELD.format(20)}, 10, 27),
    "InstancesNotReady": ({'c2c_instances{status="not_ready"}': HELD.format(20)}, 20, 27),
    "AppExposed": ({"c2c_instances_exposed": HELD.format(20)}, 7, 27),
    "CertificateNotServed": ({'c2c_certificates{state="not_served"}': HELD.format(20)}, 6, 27),
    "CertificateExpiresSoon": (
        {"c2c_certificate_earliest_expiry_timestamp_seconds": f"21600x20 {SECONDS_A_DAY}x60"},
        1,
        27,
    ),
    "CertificatesExpiring": ({'c2c_certificates_expiring{kind="ca"}': HELD.format(20)}, 5, 27),
    "CertificatesCannotBeIssued": ({"c2c_certificate_issue_failures_total": COUNTED}, 5, 16),
    "CaRotationWaits": ({"c2c_ca_rotation_waiting_instances": HELD.format(70)}, 65, 77),
    "EnvoyRefusesResources": ({'c2c_xds_nacks_total{type="LDS"}': COUNTED}, 5, 16),
    "ChangesNotFollowed": ({'c2c_changes_behind_total{stage="acked"}': COUNTED}, 5, 16),
    "ChangesCannotBeWritten": ({"c2c_store_failures_total": COUNTED}, 5, 16),
    "TokensRefused": (
        {'c2c_enrollments_refused_total{code="UNAUTHENTICATED"}': COUNTED},
        5,
        16,
    ),
    "FewFilesLeft": ({f"process_open_fds{JOB}": "100x4 1000x20 100x60"}, 5, 27),
    "EventLoopBlocked": (
        {'c2c_event_loop_lag_seconds_bucket{le="0.25"}': "0+600x4 2400x20 2400+600x60"},
        5,
        40,
    ),
}


def alerts() -> dict[str, Any]:
    """Return the rules of the document, as a file of Prometheus."""
    text = DOCUMENT.read_text("utf-8")
    marked = re.compile(
        r"^<!-- tests/inspection runs .*\n```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL
    )
    found = marked.search(text)
    assert found is not None
    loaded: dict[str, Any] = yaml.safe_load(found[1])
    return loaded


def rules() -> dict[str, dict[str, Any]]:
    """Return each rule by the name of its alert."""
    return {rule["alert"]: rule for group in alerts()["groups"] for rule in group["rules"]}


def promtool(*arguments: str, directory: Path) -> None:
    """Run promtool; what it finds wrong is what the test says."""
    command = [need_command("promtool", "prometheus"), *arguments]
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_says_what_to_do() -> None:
    """Whoever is woken reads the summary, whole sentences; a trouble below proves each alert."""
    summaries = {name: rule["annotations"]["summary"] for name, rule in rules().items()}
    sentences = re.compile(r"[A-Z].*[.?]")
    assert [name for name, each in summaries.items() if not sentences.fullmatch(each)] == []
    assert set(rules()) == set(TROUBLES)


def test_the_rules_are_rules(tmp_path: Path) -> None:
    """Prometheus takes the file as it stands in the document."""
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(alerts()))

    promtool("check", "rules", "rules.yml", directory=tmp_path)


@pytest.mark.parametrize("name", [None, *TROUBLES])
def test_an_alert_fires_while_there_is_trouble_and_not_else(
    tmp_path: Path, name: str | None
) -> None:
    """No other fires for it, nor any while all is well."""
    trouble, fires, over = TROUBLES[name] if name else ({}, 30, 59)
    series = QUIET | trouble
    assert series.keys() == QUIET.keys()
    expected = {minute: [name] if minute == fires and name else [] for minute in (fires, over)}
    if name:
        expected[fires - 1] = []
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(alerts()))
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": key, "values": each} for key, each in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{minute}m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{each}"}}', "value": 1} for each in names
                        ],
                    }
                    for minute, names in expected.items()
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))

    promtool("test", "rules", "test.yml", directory=tmp_path)
