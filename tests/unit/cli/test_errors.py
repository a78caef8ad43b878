"""Every way to get it wrong is one sentence on standard error, exit 1, and never a traceback."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from control_plane.cli import apps as apps_module
from control_plane.cli.errors import capitalised
from control_plane.cli.globals import Target
from tests.unit.cli.running import Ran, Run, run_c2c

POLICY = ("add-network-policy", "app-a", "app-b")
MAP = ("map-route", "app-b", "apps.internal", "--hostname")

USAGE = [
    (("map-rout",), "'map-rout' is not a registered command, did you mean 'map-route'?"),
    (("frobnicate",), "'frobnicate' is not a registered command, see 'c2c help'"),
    (("help", "map-rout"), "'map-rout' is not a registered command, did you mean 'map-route'?"),
    (("routes", "b", "--app", "b"), "APP and --app cannot be used together"),
    *(
        ((command, "b", "--all"), "APP and --all cannot be used together: an app is of one space")
        for command in ("certs", "events", "instances", "routes", "status")
    ),
    (("status", "--app", "b", "--all"), "APP and --all cannot be used together"),
    (("network-policies", "b", "--all"), "SOURCE_APP and --all cannot be used together"),
    (
        ("network-policies", "--destination", "b", "--all"),
        "--destination and --all cannot be used together: an app is of one space, see -s and -o",
    ),
    (("help", "ca", "lst"), "'ca lst' is not a registered command, there are: ca list, ca prepare"),
    (("--data-dri", "x", "apps"), "unknown flag `data-dri', did you mean --data-dir?"),
    (("apps", "--outptu", "json"), "unknown flag `outptu', did you mean --output?"),
    ((*MAP, "b", "--path", "/"), "unknown flag `path'"),
    (("apps", "--all=yes"), "flag `--all' takes no argument"),
    (("apps", "--output"), "expected argument for flag `--output', one of 'table', 'json'"),
    ((*MAP,), "expected argument for flag `--hostname'"),
    (
        (*MAP, "b", "--wait"),
        "expected argument for flag `--wait', one of 'committed', 'acked', 'served'",
    ),
    (("apps", "--output", "xml"), "--output: 'xml' is not one of 'table', 'json'"),
    (("apps", "extra"), "Got unexpected extra argument (extra)"),
    (("app",), "the required argument `APP` was not provided"),
    (("create-app",), "the required argument `APP` was not provided"),
    (("map-route", "app-b"), "the required argument `DOMAIN` was not provided"),
    (
        ("map-route", "app-b", "", "--hostname", "b"),
        "Invalid value for 'DOMAIN': must be a text that is not empty: ''",
    ),
    (
        ("add-network-policy", "a", ""),
        "Invalid value for 'DESTINATION_APP': must be a text that is not empty: ''",
    ),
    *(
        (
            (command, ""),
            f"Invalid value for '{what}': must be a text that is not empty: ''",
        )
        for command, what in (
            ("app", "APP"),
            ("create-app", "APP"),
            ("update-app", "APP"),
            ("delete-app", "APP"),
            ("join-token", "APP"),
            ("revoke-join-tokens", "APP"),
            ("bootstrap", "INSTANCE"),
            ("remove-instance", "INSTANCE"),
            ("issue-operator-cert", "NAME"),
            ("revoke-operator-cert", "NAME"),
        )
    ),
    (("wait", ""), "Invalid value for 'APP': must be a text that is not empty: ''"),
    (("wait", "--app", ""), "--app: must be a text that is not empty: ''"),
    (("delete-app", "b", "-f", "-s", ""), "--space: must be a text that is not empty: ''"),
    (("delete-app", "b", "-f", "-o", ""), "--org: must be a text that is not empty: ''"),
    (
        ("add-network-policy", "a", "b", "-s", ""),
        "-s: must be a text that is not empty: ''",
    ),
    (("why", "", "b"), "give one destination, or a source and a destination"),
    (
        ("map-route", "app-b", "apps.internal"),
        "the required flag `--hostname' was not specified",
    ),
    ((*MAP, "b", "--wait", "ever"), "--wait: 'ever' is not one of 'committed', 'acked', 'served'"),
    (
        (*MAP, "b", "--timeout", "5"),
        "--timeout: must be a number and a unit (ms, s, m, h, d), as in 10m or 24h: '5'",
    ),
    ((*MAP, "b", "--timeout", "61m"), "--timeout: must be between 1ms and 1h: 61m"),
    *(
        ((*words, "--timeout", "9s"), "--timeout needs --wait: without that, nothing is waited")
        for words in (
            (*MAP, "b"),
            ("unmap-route", *MAP[1:], "b"),
            POLICY,
            ("remove-network-policy", *POLICY[1:], "--protocol", "tcp", "--port", "61443"),
            ("ca", "prepare"),
            ("ca", "prepare", "--undo"),
            ("ca", "activate"),
            ("ca", "retire", "--force"),
        )
    ),
    (("wait", "b", "--timeout", "25h"), "--timeout: must be between 1ms and 24h: 25h"),
    (
        ("create-app", "b", "--port", "http"),
        "--port: must be a whole number between 1024 and 65535: 'http'",
    ),
    (
        ("create-app", "b", "--protocol", "spdy"),
        "--protocol: 'spdy' is not one of 'http1', 'http2', 'tcp'",
    ),
    (("register-instance", "b"), "the required flag `--address' was not specified"),
    (
        ("issue-operator-cert", "me", "--ttl", "59s"),
        "--ttl: must be between 1m and 90d: 59s",
    ),
    (
        ("sidecar", "--server", "s:1", "--address", "app-b"),
        "--address: not an IP address: 'app-b'",
    ),
    (("join-token", "b", "--ttl", "0s"), "--ttl: must be between 1s and 30d: 0s"),
    (("join-token", "b", "--ttl", "31d"), "--ttl: must be between 1s and 30d: 31d"),
    (
        ("join-token", "b", "--uses", "0"),
        "--uses: must be a whole number between 1 and 1000000: '0'",
    ),
    (
        ("create-app", "b", "--port", "1023,8080"),
        "--port: must be a whole number between 1024 and 65535: '1023'",
    ),
    (
        ("update-app", "b", "--c2c-port", "99999"),
        "--c2c-port: must be a whole number between 1024 and 65535: '99999'",
    ),
    (("add-network-policy", "a"), "the required argument `DESTINATION_APP` was not provided"),
    (
        (*POLICY, "--destination-app", "app-b"),
        "DESTINATION_APP and --destination-app cannot be used together",
    ),
    ((*POLICY, "--port", "8080"), "--protocol and --port flags must be specified together"),
    ((*POLICY, "--protocol", "tcp"), "--protocol and --port flags must be specified together"),
    (
        (*POLICY, "-o", "o2"),
        "A space must be provided when an org is provided, but the '-s' flag was not specified.",
    ),
    ((*POLICY, "--protocol", "tcp", "--port", "0"), "PORT must be a positive integer: '0'"),
    ((*POLICY, "--protocol", "tcp", "--port", "http"), "PORT must be a positive integer: 'http'"),
    ((*POLICY, "--protocol", "tcp", "--port", "8080-"), "PORT must be a positive integer: '8080-'"),
    (
        (*POLICY, "--protocol", "tcp", "--port", "1-2-3"),
        "PORT syntax must match integer[-integer]: '1-2-3'",
    ),
    ((*POLICY, "--protocol", "icmp", "--port", "1"), 'PROTOCOL must be "tcp" or "udp": \'icmp\''),
    (
        ("remove-network-policy", "a", "b", "--port", "1"),
        "the required flag `--protocol' was not specified",
    ),
    (
        ("remove-network-policy", "a", "b", "--protocol", "tcp"),
        "the required flag `--port' was not specified",
    ),
    (("bootstrap", "x", "--xds-server", "x"), "--xds-server: must be HOST:PORT, an IPv6 address"),
    (("--server", "h:1", "apps"), "--server needs --cert and --key and --ca as well"),
    (
        ("--server", "host", "--cert", "c", "--key", "k", "--ca", "ca", "trust-bundle"),
        "--server must be HOST:PORT, an IPv6 address in brackets, as in",
    ),
    (("issue-operator-cert", "../x"), "NAME must not have a '/', it names files: '../x'"),
    (
        ("sidecar", "--server", "h:1", "--address", "auto", "--fingerprint", "f"),
        "--fingerprint: fingerprint must be SHA-256, 64 hexadecimal digits: 'f'",
    ),
]


@pytest.mark.parametrize(("words", "sentence"), USAGE, ids=lambda value: " ".join(value)[:60])
def test_a_command_line_that_cannot_be_understood(words: tuple[str, ...], sentence: str) -> None:
    """It is told in the words of ``cf``, before any server is asked."""
    ran = run_c2c(*words, C2C_DATA_DIR="/nonexistent")
    first, *rest = ran.err.splitlines()

    assert ran.code == 1
    assert first.startswith(f"Incorrect Usage: {sentence}")
    assert len(first) < len("Incorrect Usage: ") + len(sentence) + 50
    assert all(line.startswith("See 'c2c help ") for line in rest)
    assert len(rest) <= (words[0] != "help")


LONG = "/" + "long" * 2_500


@pytest.mark.parametrize("option", ["--ca-file", "--envoy"])
def test_a_file_that_may_not_be_seen_is_not_said_to_be_missing(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory may be the server's: then it is permission that lacks."""
    looked_at = os.stat

    def refuse(path: Any, **others: Any) -> os.stat_result:  # noqa: ANN401 - what os.stat takes
        if str(path) == "/of/others":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return looked_at(path, **others)

    monkeypatch.setattr(os, "stat", refuse)
    for path, why in (("/of/others", ": Permission denied"), ("/of/none", " does not exist")):
        ran = run_c2c("sidecar", "--server", "localhost:1", "--address", "auto", option, path)
        assert ran.code == 1
        assert f"{option}: file '{path}'{why}" in ran.err.replace("File", "file")


@pytest.mark.parametrize(
    "line",
    [
        "LONG",
        "help LONG",
        "ca LONG",
        "apps LONG",
        "apps --LONG",
        "apps --output LONG",
        "apps --data-dir LONG",
        "apps --config LONG",
        "app LONG",
        "apps -s LONG",
        "create-app b --port LONG",
        "map-route b LONG --hostname LONG",
        "delete-app LONG",
        "delete-app LONG -f",
        "remove-instance LONG",
        "bootstrap LONG",
        "issue-operator-cert LONG",
        "issue-operator-cert me --dir LONG",
        "--server localhost:1 --cert LONG --key LONG --ca LONG apps",
        "sidecar --server localhost:1 --address auto --ca-file LONG",
        "sidecar --server localhost:1 --address auto --dir LONG",
        "check --data-dir LONG",
        "check --router-ca LONG",
    ],
)
def test_a_long_value_floods_nothing(c2c: Run, line: str) -> None:
    """Whatever is too long is quoted by its beginning, wherever it is quoted."""
    ran = c2c(*(LONG if word == "LONG" else word.replace("LONG", LONG) for word in line.split()))

    assert 0 < len(ran.out) + len(ran.err) < 1_000
    assert LONG[:60].lower() in (ran.out + ran.err).lower()


def test_a_value_that_was_cut_ends_like_one(c2c: Run) -> None:
    """With the three points of all others."""
    first = c2c("create-app", "b", "--port", LONG).err.splitlines()[0]

    assert first.endswith(f"between 1024 and 65535: '{LONG[:79]}...")


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("certs", "--app"),
        ("events", "--app"),
        ("instances", "--app"),
        ("network-policies", "--source"),
        ("routes", "--app"),
        ("status", "--app"),
        ("wait", "--app"),
    ],
)
def test_the_app_of_a_command_is_an_argument_or_a_flag(command: str, flag: str) -> None:
    """Whoever knows it from one command need not look it up for another."""
    by_argument = run_c2c(command, "shop", C2C_DATA_DIR="/nonexistent")

    assert " app shop " in by_argument.out
    assert run_c2c(command, flag, "shop", C2C_DATA_DIR="/nonexistent") == by_argument


REFUSED = [
    (("app", "pineapple"), "App 'pineapple' not found"),
    (
        ("app", "ap-b"),
        "App 'ap-b' not found in org 'default' / space 'default', did you mean 'app-b'?\n",
    ),
    (("update-app", "pineapple", "--ssh"), "App 'pineapple' not found"),
    (("map-route", "pineapple", "apps.internal", "-n", "p"), "App 'pineapple' not found"),
    (("unmap-route", "pineapple", "apps.internal", "-n", "p"), "App 'pineapple' not found"),
    (("routes", "--app", "pineapple"), "App 'pineapple' not found"),
    (("instances", "pineapple"), "App 'pineapple' not found"),
    (("join-token", "pineapple"), "App 'pineapple' not found"),
    (("revoke-join-tokens", "pineapple"), "App 'pineapple' not found"),
    (("join-tokens", "pineapple"), "App 'pineapple' not found"),
    (("network-policies", "--source", "pineapple"), "App 'pineapple' not found"),
    (("network-policies", "--destination", "pineapple"), "App 'pineapple' not found"),
    (("add-network-policy", "app-b", "pineapple"), "App 'pineapple' not found"),
    (
        ("register-instance", "pineapple", "--address", "127.0.0.1"),
        "App 'pineapple' not found",
    ),
    (
        ("app", "app-b", "-s", "elsewhere"),
        "App 'app-b' not found in org 'default' / space 'elsewhere': one is in org 'default' / ",
    ),
    (
        ("add-network-policy", "app-b", "win", "-s", "elsewhere", "-o", "o2"),
        "App 'win' not found in org 'o2' / space 'elsewhere': one is in org 'default' / space ",
    ),
    (
        ("create-app", "app-b", "--protocol", "tcp"),
        "App 'app-b' in org 'default' / space 'default' exists with other properties: protocol",
    ),
    (("create-app", "-", "--port", "8080"), "App name must start with a letter or digit"),
    (
        ("create-app", "c", "--port", "61443"),
        "Port 61443 is reserved for container networking",
    ),
    (
        ("create-app", "c", "--c2c-port", "9090"),
        "c2c port 9090 is not a port of the app, its ports are: 8080",
    ),
    ((*MAP, "*"), "Wildcard hosts are not supported for internal domains: '*'"),
    ((*MAP, "b" * 64), "Hostname label longer than 63 octets: 'bbbb"),
    (
        ("map-route", "app-b", "example.com", "--hostname", "b"),
        "Domain 'example.com' is not an internal domain",
    ),
    (("map-route", "win", "apps.internal", "--hostname", "w"), "Container-to-container networking"),
    (("register-instance", "app-b", "--address", "nowhere"), "Not an IP address: 'nowhere'"),
    (
        ("add-network-policy", "app-b", "app-b", "--protocol", "tcp", "--port", "9-8"),
        "Invalid port range 9-8, start must be less than or equal to end",
    ),
    (
        ("add-network-policy", "app-b", "app-b", "--protocol", "tcp", "--port", "65536"),
        "Invalid end port 65536, must be in range 1-65535",
    ),
    (
        ("join-token", "app-b", "--address-range", "10.0.0.0/99"),
        "Not an address range in CIDR notation",
    ),
    (("bootstrap", "app-b/7"), "Instance 'app-b/7' not found: 'c2c instances app-b' lists them"),
]


def test_what_the_server_refuses_it_says_itself(c2c: Run) -> None:
    """Its sentence is passed on with a capital letter; FAILED stands where OK would have."""
    assert c2c("create-app", "app-b").code == c2c("create-app", "win", "--os", "windows").code == 0
    before = c2c("apps", "--all").out + c2c("routes", "--all").out + c2c("instances", "--all").out
    for words, sentence in REFUSED:
        ran = c2c(*words)

        assert (ran.code, ran.err.count("\n")) == (1, 1), words
        assert ran.err.startswith(sentence), words
        assert ran.out.endswith("...\nFAILED\n") or words[0] == "bootstrap", words
    after = c2c("apps", "--all").out + c2c("routes", "--all").out + c2c("instances", "--all").out
    assert after == before


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("app 'shop' not found", "App 'shop' not found"),
        ("why", "Why"),
        ("container-to-container networking is off", "Container-to-container networking is off"),
        ("shop/0 does not accept connections", "shop/0 does not accept connections"),
        ("shop.apps.internal leads nowhere", "shop.apps.internal leads nowhere"),
        ("me/me.pem, me/me.key exist", "me/me.pem, me/me.key exist"),
        ("ca_cert needs the path of a file", "ca_cert needs the path of a file"),
        ("61443 leads to port 8080 of shop/0", "61443 leads to port 8080 of shop/0"),
        ("'x' is no name", "'x' is no name"),
    ],
)
def test_only_a_plain_word_gets_a_capital_letter(sentence: str, shown: str) -> None:
    """A name, a path or a setting at the beginning stays what it is called."""
    assert capitalised(sentence) == shown


def test_what_nobody_foresaw_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours shows no traceback unless it is asked for."""

    def broken() -> Target:
        raise ZeroDivisionError("whoops")

    monkeypatch.setattr(apps_module, "target", broken)
    ran = run_c2c("apps")

    assert ran == Ran(
        1,
        "",
        "Unexpected error: ZeroDivisionError: whoops ('c2c --debug' shows where it comes from)\n",
    )
    for words in (("--debug", "apps"), ("apps", "--debug")):
        assert "Traceback (most recent call last)" in run_c2c(*words).err


def test_interrupting_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command without a word, with the code that shells know."""

    def interrupted() -> Target:
        raise KeyboardInterrupt

    monkeypatch.setattr(apps_module, "target", interrupted)

    assert run_c2c("apps").code == 130
    assert "Error" not in run_c2c("apps").err


def test_a_file_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the operating system says which file it is about."""

    def unwritable() -> Target:
        raise PermissionError(13, "Permission denied", "/etc/alice.pem")

    monkeypatch.setattr(apps_module, "target", unwritable)

    assert run_c2c("apps") == Ran(1, "", "Cannot use /etc/alice.pem: Permission denied\n")
