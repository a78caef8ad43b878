"""What ``promtool check metrics`` finds, for text in Prometheus' format.

The rule of this module: it has the checks of promlint
(https://github.com/prometheus/client_golang/tree/main/prometheus/testutil/promlint/validations),
one after the other, and no opinion of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

_BASE_UNITS = {
    "milliseconds": "seconds",
    "microseconds": "seconds",
    "nanoseconds": "seconds",
    "minutes": "seconds",
    "hours": "seconds",
    "days": "seconds",
    "weeks": "seconds",
    "kilobytes": "bytes",
    "megabytes": "bytes",
    "gigabytes": "bytes",
    "kibibytes": "bytes",
    "mebibytes": "bytes",
    "bits": "bytes",
    "percent": "ratio",
    "fahrenheit": "celsius",
}
_ABBREVIATIONS = frozenset({"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "h", "d"})
_KINDS = frozenset({"counter", "gauge", "histogram", "summary", "untyped"})
_RESERVED = ("_count", "_sum", "_bucket")


def families(text: str) -> dict[str, Metric]:
    """Return what a text exposes, by the name that is declared (counters without ``_total``)."""
    return {each.name: each for each in text_string_to_metric_families(text)}


def problems(text: str) -> list[str]:
    """Return a sentence for each rule that a metric breaks."""
    declared = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    found: list[str] = []
    for name, kind in declared.items():
        found += [f"{name}: {problem}" for problem in _of(name, kind, helps.get(name, ""))]
    for name, family in families(text).items():
        found += [f"{name}: {problem}" for problem in _of_labels(family)]
    return found


def _of(name: str, kind: str, text: str) -> Iterator[str]:
    words = name.split("_")
    if not text:
        yield "no help text"
    if kind == "counter" and not name.endswith("_total"):
        yield 'counter metrics should have "_total" suffix'
    if kind != "counter" and name.endswith("_total"):
        yield 'non-counter metrics should not have "_total" suffix'
    if kind not in ("histogram", "summary") and name.endswith(_RESERVED):
        yield "a suffix that is for histograms and summaries"
    if _KINDS & set(words):
        yield "metric name should not include its type"
    if ":" in name:
        yield 'metric names should not contain ":"'
    if re.search(r"[a-z][A-Z]", name):
        yield "metric names should be written in 'snake_case' not 'camelCase'"
    yield from (
        f'use base unit "{_BASE_UNITS[w]}" instead of "{w}"' for w in words if w in _BASE_UNITS
    )
    if _ABBREVIATIONS & set(words):
        yield "metric names should not contain abbreviated units"


def _of_labels(family: Metric) -> Iterator[str]:
    for sample in family.samples:
        for label in sample.labels:
            if re.search(r"[a-z][A-Z]", label):
                yield f"label {label} should be written in 'snake_case' not 'camelCase'"
            if label == "le" and family.type != "histogram":
                yield "label le is for histograms"
            if label == "quantile" and family.type != "summary":
                yield "label quantile is for summaries"
