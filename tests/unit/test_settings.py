"""Settings: where they come from, how they are read, and what is said when they are wrong."""

from __future__ import annotations

import pwd
from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control_plane.ca import create_authority, new_key_pair
from control_plane.errors import ConfigurationError, InvalidArgument
from control_plane.names import shown
from control_plane.settings import (
    LogFormat,
    LogLevel,
    Settings,
    SocketAddress,
    admin_socket,
    all_settings,
    cautions,
    enroll_host,
    find_data_dir,
    load_settings,
)
from control_plane.settings.retired import RETIRED_FILE
from control_plane.settings.values import (
    Reader,
    count_between,
    duration_between,
    format_duration,
    read_host,
    read_listen_address,
    read_server_address,
    size_between,
)
from control_plane.store.files import write_private
from tests.unit.ca.forge import ca_pem

DAY = timedelta(days=1)


def problems_of(
    flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return every problem that loading these reports."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(flags or {}, environ or {})
    return caught.value.problems


def test_defaults_need_nothing_from_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without flags, variables and file, every setting has a safe default: loopback only."""
    monkeypatch.setenv("HOME", "/home/op")
    loaded = load_settings({}, {})
    settings = loaded.settings

    assert settings == Settings(data_dir=Path("/home/op/.local/state/c2c"))
    assert settings.xds_address.host == "127.0.0.1"
    assert settings.enroll_address.host == "127.0.0.1"
    assert settings.http_address.host == "127.0.0.1"
    assert settings.admin_address is None
    assert settings.internal_domains == ("apps.internal",)
    assert settings.certificate_lifetime == timedelta(hours=24)
    assert settings.policies_per_source == 150
    assert not settings.unproxied_port_mappings
    assert set(loaded.origins.values()) == {"default"}


def test_data_dir_follows_xdg() -> None:
    """State that outlives a restart belongs into XDG_STATE_HOME, which counts if absolute."""
    assert load_settings({}, {"XDG_STATE_HOME": "/state"}).settings.data_dir == Path("/state/c2c")
    assert load_settings({}, {"XDG_STATE_HOME": "state"}) == load_settings({}, {})


def test_flags_win_over_variables_over_the_file_over_defaults(tmp_path: Path) -> None:
    """A setting is taken from the first source that has it, and says which one that was."""
    config = tmp_path / "c2c.toml"
    config.write_text(
        'xds_address = "127.0.0.1:1"\n'
        'enroll_address = "127.0.0.1:2"\n'
        'http_address = "127.0.0.1:3"\n'
    )
    loaded = load_settings(
        {"config": str(config), "xds_address": "127.0.0.1:31"},
        {"C2C_XDS_ADDRESS": "127.0.0.1:21", "C2C_ENROLL_ADDRESS": "127.0.0.1:22"},
    )
    settings, origins = loaded

    assert settings.xds_address.port == 31
    assert settings.enroll_address.port == 22
    assert settings.http_address.port == 3
    assert settings.log_level is LogLevel.INFO
    assert origins["xds_address"] == "--xds-address"
    assert origins["enroll_address"] == "C2C_ENROLL_ADDRESS"
    assert origins["http_address"] == f"http_address in {config}"
    assert origins["log_level"] == "default"


def test_c2c_config_names_the_file_unless_the_flag_does(tmp_path: Path) -> None:
    """The file is found by --config, else by C2C_CONFIG."""
    for name in ("flag", "variable"):
        (tmp_path / f"{name}.toml").write_text(f'trust_domain = "{name}.internal"\n')
    environ = {"C2C_CONFIG": str(tmp_path / "variable.toml")}

    assert load_settings({}, environ).settings.trust_domain == "variable.internal"
    flags = {"config": str(tmp_path / "flag.toml")}
    assert load_settings(flags, environ).settings.trust_domain == "flag.internal"


def test_a_flag_that_is_given_no_time_says_nothing() -> None:
    """One that may be given several times is an empty list then, and hides no variable."""
    loaded = load_settings({"server_names": ()}, {"C2C_SERVER_NAMES": "a,b"})

    assert loaded.settings.server_names == ("a", "b")
    assert loaded.origins["server_names"] == "C2C_SERVER_NAMES"


def test_empty_variable_counts_as_not_set() -> None:
    """A compose file's ``${NAME:-}`` leaves an empty variable, which means nothing."""
    environ = {"C2C_ADMIN_ADDRESS": "", "C2C_CONFIG": "", "C2C_LOG_LEVEL": ""}

    assert load_settings({}, environ).settings == load_settings({}, {}).settings


def test_every_setting_is_read_from_text_and_from_toml(tmp_path: Path) -> None:
    """Each setting has a flag, a variable and a key, and reads the same value from all of them."""
    pem = tmp_path / "ca.pem"
    pem.write_text("pem")
    texts = {
        "data_dir": str(tmp_path),
        "xds_address": "0.0.0.0:18000",
        "enroll_address": "[::1]:0",
        "http_address": "127.0.0.1:0",
        "admin_address": "127.0.0.1:18003",
        "server_names": "Control-Plane,10.0.0.1",
        "internal_domains": "apps.internal, Other.Internal.",
        "trust_domain": "example.org",
        "ca_cert": str(pem),
        "ca_key": str(pem),
        "certificate_lifetime": "1h30m",
        "log_level": "debug",
        "log_format": "json",
        "drain_time": "1.5s",
        "router_ca": str(pem),
        "router_sans": "gorouter.service.cf.internal",
        "unproxied_port_mappings": "yes",
        "policies_per_source": "5",
        "max_message_size": "1MiB",
        "max_names_per_stream": "100",
        "max_streams_per_node": "4",
        "max_new_streams_per_second": "20",
        "max_refused_enrollments_per_minute": "7",
    }
    assert set(texts) == {setting.name for setting in all_settings()}
    by_variable = load_settings({}, {f"C2C_{name.upper()}": text for name, text in texts.items()})
    by_flag = load_settings(
        {
            setting.name: tuple(texts[setting.name].split(","))
            if setting.is_list
            else texts[setting.name]
            for setting in all_settings()
        },
        {},
    )
    config = tmp_path / "c2c.toml"
    typed = {
        "server_names": '["control-plane", "10.0.0.1"]',
        "internal_domains": '["apps.internal", "other.internal"]',
        "router_sans": '["gorouter.service.cf.internal"]',
        "unproxied_port_mappings": "true",
        "policies_per_source": "5",
        "max_message_size": "1_048_576",
        "max_names_per_stream": "100",
        "max_streams_per_node": "4",
        "max_new_streams_per_second": "20",
        "max_refused_enrollments_per_minute": "7",
    }
    config.write_text(
        "".join(f"{name} = {typed.get(name, repr(text))}\n" for name, text in texts.items())
    )
    by_file = load_settings({"config": str(config)}, {})

    expected = Settings(
        data_dir=tmp_path,
        xds_address=SocketAddress("0.0.0.0", 18000),
        enroll_address=SocketAddress("::1", 0),
        http_address=SocketAddress("127.0.0.1", 0),
        admin_address=SocketAddress("127.0.0.1", 18003),
        server_names=("control-plane", "10.0.0.1"),
        internal_domains=by_flag.settings.internal_domains,
        trust_domain=by_flag.settings.trust_domain,
        ca_cert=pem,
        ca_key=pem,
        certificate_lifetime=timedelta(minutes=90),
        log_level=LogLevel.DEBUG,
        log_format=LogFormat.JSON,
        drain_time=timedelta(milliseconds=1500),
        router_ca=pem,
        router_sans=("gorouter.service.cf.internal",),
        unproxied_port_mappings=True,
        policies_per_source=5,
        max_message_size=2**20,
        max_names_per_stream=100,
        max_streams_per_node=4,
        max_new_streams_per_second=20,
        max_refused_enrollments_per_minute=7,
    )
    assert by_variable.settings == by_flag.settings == by_file.settings == expected
    assert expected.internal_domains == ("apps.internal", "other.internal")
    assert "default" not in {*by_variable.origins.values(), *by_file.origins.values()}


DURATION = "must be a number and a unit (ms, s, m, h, d), as in 10m or 24h"

REFUSED = [
    ("xds_address", "18000", "must be HOST:PORT, an IPv6 address in brackets, as in [::1]:18000"),
    ("xds_address", ":18000", "must be HOST:PORT, an IPv6 address in brackets, as in [::1]:18000"),
    ("xds_address", "[::1:8", "must be HOST:PORT, an IPv6 address in brackets, as in [::1]:18000"),
    ("xds_address", "::1]:8", "must be HOST:PORT, an IPv6 address in brackets, as in [::1]:18000"),
    (
        "xds_address",
        "::1:18000",
        "must be HOST:PORT, an IPv6 address in brackets, as in [::1]:18000",
    ),
    ("xds_address", "127.0.0.1:65536", "port must be 0-65535"),
    ("xds_address", "127.0.0.1:", "port must be 0-65535"),
    ("xds_address", "127.0.0.1:+1", "port must be 0-65535"),
    (
        "xds_address",
        "localhost:1",
        "must be an IP address and a port, as in 127.0.0.1:18000",
    ),
    ("xds_address", "[fe80::1%eth0]:1", "must be an address without a scope"),
    ("server_names", "a_b", "not an IP address or host name"),
    ("server_names", "-a", "not an IP address or host name"),
    ("server_names", "10.0.0.256", "not an IP address or host name"),
    ("server_names", "a" * 64, "not an IP address or host name"),
    ("server_names", ".".join(["a" * 63] * 4), "not an IP address or host name"),
    ("server_names", "a..b", "not an IP address or host name"),
    *(
        (
            "server_names",
            address,
            "must be a host name, or an address that any client can connect to",
        )
        for address in ("0.0.0.0", "::", "224.0.0.1", "fe80::1", "fe80::1%eth0")
    ),
    ("internal_domains", "internal", "domain needs at least two labels"),
    ("internal_domains", "*.internal", "domain does not comply with RFC 1035"),
    (
        "trust_domain",
        "C2C",
        "trust domain must be 1 to 255 lower-case letters, digits, '-', '_' and single dots",
    ),
    ("ca_cert", "/nowhere/ca.pem", "file not found"),
    ("ca_cert", "/dev/null", "no regular file"),
    ("ca_cert", "/", "no regular file"),
    ("certificate_lifetime", "24", DURATION),
    ("certificate_lifetime", "-1h", DURATION),
    ("certificate_lifetime", "1 h", DURATION),
    ("certificate_lifetime", "one day", DURATION),
    ("log_level", "loud", "must be one of debug, info, warning, error"),
    ("log_format", "xml", "must be one of auto, json, console"),
    ("unproxied_port_mappings", "maybe", "must be true or false"),
    ("policies_per_source", "0", "must be a whole number between 1 and 1000000"),
    ("policies_per_source", "1.5", "must be a whole number between 1 and 1000000"),
    ("policies_per_source", "٣", "must be a whole number between 1 and 1000000"),
    (
        "max_message_size",
        "4MB",
        "must be bytes or a number and B, KiB, MiB or GiB, as in 4MiB",
    ),
]


@pytest.mark.parametrize(
    ("text", "address", "is_every"),
    [
        ("[::0]:1", "[::]:1", True),
        ("[0:0::1]:1", "[::1]:1", False),
        ("[FD00::1]:1", "[fd00::1]:1", False),
        ("[::ffff:10.0.0.1]:1", "10.0.0.1:1", False),
        ("[::ffff:0.0.0.0]:1", "0.0.0.0:1", True),
    ],
)
def test_an_address_to_listen_on_is_what_its_canonical_form_is(
    text: str, address: str, *, is_every: bool
) -> None:
    """However it is written: certificates name it, and Envoys let in who comes from it."""
    read = read_listen_address(text)

    assert (str(read), read.is_every) == (address, is_every)


def test_an_address_of_the_server_is_what_its_certificate_has() -> None:
    """A client that is told to connect there compares the two."""
    text = "::FFFF:10.0.0.1,FD00::1,10.0.0.1,C2C1.example"

    names = load_settings({"server_names": text}, {}).settings.server_names
    assert names == ("10.0.0.1", "fd00::1", "c2c1.example")


@pytest.mark.parametrize(("name", "text", "rule"), REFUSED)
def test_a_bad_value_is_one_sentence_with_source_rule_and_value(
    name: str, text: str, rule: str
) -> None:
    """A value that breaks a rule is quoted, with the variable it stands in and the rule."""
    variable = f"C2C_{name.upper()}"
    shown = f"{text!r:.80}" if len(repr(text)) <= 80 else f"{text!r:.80}..."

    assert problems_of({}, {variable: text}) == (f"{variable}: {rule}: {shown}",)


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("certificate_lifetime", "3s", "must be between 4s and 90d: 3s"),
        ("certificate_lifetime", "91d", "must be between 4s and 90d: 91d"),
        ("certificate_lifetime", "9" * 40 + "d", f"must be between 4s and 90d: {'9' * 40}d"),
        ("drain_time", "61m", "must be between 0s and 1h: 61m"),
        ("max_message_size", "1KiB", "must be between 65536 and 1073741824 bytes: 1KiB"),
        (
            "max_message_size",
            "9" * 5000,
            f"must be bytes or a number and B, KiB, MiB or GiB, as in 4MiB: {shown('9' * 5000)}",
        ),
    ],
)
def test_a_value_out_of_bounds_is_told_the_bounds(name: str, text: str, rule: str) -> None:
    """A value of the right form outside its bounds is answered with both bounds."""
    assert problems_of({name: text}) == (f"--{name.replace('_', '-')}: {rule}",)


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (duration_between(timedelta(), timedelta(hours=1)), ("0s", "1h")),
        (size_between(1, 1024), ("1", "1KiB")),
        (count_between(1, 10), ("1", "10")),
        (read_listen_address, ("127.0.0.1:0", "127.0.0.1:65535")),
        (read_host, ("a" * 63, ".".join(["a" * 63] * 3 + ["b" * 61]))),
    ],
    ids=["durations", "sizes", "counts", "addresses", "hosts"],
)
def test_a_value_may_be_what_bounds_it(read: Reader[object], texts: Sequence[str]) -> None:
    """A drain time of no time, or a limit of one: who is told the bounds may use them."""
    for text in texts:
        read(text)


@pytest.mark.parametrize(
    ("toml", "rule"),
    [
        ("xds_address = 18000", "must be HOST:PORT"),
        ("policies_per_source = true", "must be a whole number"),
        ("max_message_size = true", "must be bytes"),
        ("unproxied_port_mappings = 1", "must be true or false: 1"),
        ("certificate_lifetime = 24", "must be a number and a unit"),
        ("internal_domains = [1]", "must be a text that is not empty: 1"),
        ("internal_domains = []", "internal_domains is empty"),
        ("log_level = 1", "must be one of"),
        ('data_dir = ""', "must be a text that is not empty: ''"),
    ],
)
def test_a_toml_value_of_the_wrong_type_is_refused(tmp_path: Path, toml: str, rule: str) -> None:
    """TOML has types: a value of another type than the setting's is refused, never guessed at."""
    config = tmp_path / "c2c.toml"
    config.write_text(toml)

    (problem,) = problems_of({"config": str(config)})

    assert rule in problem


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    """Three sources with a mistake each, and a contradiction: four sentences at once."""
    config = tmp_path / "c2c.toml"
    config.write_text('log_level = "loud"\nxds_adress = "127.0.0.1:1"\n')

    assert problems_of(
        {"config": str(config), "drain_time": "soon", "router_sans": ("gorouter",)},
        {"C2C_POLICIES_PER_SOURCE": "none"},
    ) == (
        f"unknown setting 'xds_adress' in {config}: did you mean xds_address?",
        f"log_level in {config}: must be one of debug, info, warning, error: 'loud'",
        f"--drain-time: {DURATION}: 'soon'",
        "C2C_POLICIES_PER_SOURCE: must be a whole number between 1 and 1000000: 'none'",
        "router_sans is set and router_ca is not: routers are admitted by CA and name together",
    )


def test_an_unknown_key_without_a_near_one_is_told_the_known_ones(tmp_path: Path) -> None:
    """An operator who guesses wildly is shown every key there is."""
    config = tmp_path / "c2c.toml"
    config.write_text("colour = 1\n")

    (problem,) = problems_of({"config": str(config)})

    assert problem.startswith(f"unknown setting 'colour' in {config}: known are: data_dir, xds_")


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    """Some editors put one before the first line."""
    path = tmp_path / "c2c.toml"
    path.write_text("log_level = 'debug'", encoding="utf-8-sig")

    loaded = load_settings({"config": str(path)}, {})

    assert loaded.settings.log_level is LogLevel.DEBUG


def test_a_config_file_that_cannot_be_used_is_one_problem(tmp_path: Path) -> None:
    """A missing file, no name, a directory, no text, or no TOML: each is one sentence."""
    missing, latin, broken, long = (
        tmp_path / name for name in ("missing", "latin", "broken", "long")
    )
    latin.write_bytes(b"log_level = '\xe9'")
    broken.write_text("log_level =")
    long.write_text(f"max_message_size = {'9' * 5000}")

    assert problems_of({"config": str(missing)}) == (
        f"--config: cannot read {shown(str(missing))}: No such file or directory",
    )
    assert problems_of({}, {"C2C_CONFIG": str(tmp_path)}) == (
        f"C2C_CONFIG: cannot read {shown(str(tmp_path))}: Is a directory",
    )
    assert problems_of({"config": ""}, {"C2C_CONFIG": str(broken)}) == (
        "--config: must be a text that is not empty: ''",
    )
    for path in (latin, broken, long):
        (problem,) = problems_of({"config": str(path)})
        assert problem.startswith(f"--config: {shown(str(path))} is not a TOML file: ")


def test_a_ca_needs_certificate_and_key(tmp_path: Path) -> None:
    """Half of an own CA is refused, and not reported twice when the other half is a bad value."""
    pem = tmp_path / "ca.pem"
    pem.write_text("pem")

    assert problems_of({"ca_key": str(pem)}) == (
        "ca_key is set and ca_cert is not: an own CA needs its certificate and its private key",
    )
    assert problems_of({"ca_cert": str(pem)}) == (
        "ca_cert is set and ca_key is not: an own CA needs its certificate and its private key",
    )
    assert problems_of({"ca_key": str(pem), "ca_cert": "/nowhere"}) == (
        "--ca-cert: file not found: '/nowhere'",
    )
    assert problems_of({"ca_key": "/neither", "ca_cert": "/nowhere"}) == (
        "--ca-cert: file not found: '/nowhere'",
        "ca_key: file not found: '/neither'",
    )


@pytest.mark.parametrize(("name", "what"), [("ca.key", "file not found"), (".", "no regular file")])
def test_a_ca_needs_its_key_unless_it_was_retired(tmp_path: Path, name: str, what: str) -> None:
    """It may be destroyed then, and the settings changed some other day."""
    now = datetime.now(UTC)
    own = create_authority("own", now=now, lifetime=DAY, key=new_key_pair(), serial=1)
    pem, key = tmp_path / "ca.pem", tmp_path / name
    pem.write_bytes(ca_pem(own))
    flags = {"ca_cert": str(pem), "ca_key": str(key), "data_dir": str(tmp_path)}

    assert problems_of(flags) == (f"ca_key: {what}: {shown(str(key))}",)
    retired = tmp_path / RETIRED_FILE
    write_private(retired, f"{own.fingerprint}\n".encode())
    assert load_settings(flags, {}).settings.ca_key == key
    retired.chmod(0o644)
    assert problems_of(flags) == (f"ca_key: {what}: {shown(str(key))}",)


def test_a_file_that_cannot_be_looked_at_is_one_problem_among_others(tmp_path: Path) -> None:
    """Whatever the system's reason is, it stands in the same list, after the setting's name."""
    pem, long = tmp_path / "ca.pem", tmp_path / ("x" * 300)
    pem.write_text("pem")
    wrong = {"router_ca": str(long), "router_sans": "a", "log_level": "loud"}

    assert problems_of({"ca_cert": str(pem), "ca_key": str(long), **wrong}) == (
        "--log-level: must be one of debug, info, warning, error: 'loud'",
        f"--router-ca: File name too long: {shown(str(long))}",
        f"ca_key: File name too long: {shown(str(long))}",
    )


def test_two_listeners_cannot_have_one_address() -> None:
    """Each listener needs an address of its own; port 0 is a free one each time."""
    rule = "each needs an address of its own"
    assert problems_of({"http_address": "127.0.0.1:18000", "admin_address": "127.0.0.1:18001"}) == (
        f"xds_address and http_address are both 127.0.0.1:18000: {rule}",
        f"enroll_address and admin_address are both 127.0.0.1:18001: {rule}",
    )
    load_settings({"xds_address": "127.0.0.1:0", "http_address": "127.0.0.1:0"}, {})


def test_two_listeners_of_one_port_may_not_overlap() -> None:
    """All addresses of a machine have those of each family in them; port 0 is a free one."""
    every = {"xds_address": "0.0.0.0:7", "server_names": "c2c.example"}
    rule = "overlap: each needs a port of its own"

    assert problems_of({**every, "enroll_address": "127.0.0.1:7", "http_address": "[::1]:7"}) == (
        f"xds_address 0.0.0.0:7 and enroll_address 127.0.0.1:7 {rule}",
    )
    assert problems_of({"http_address": "[::1]:7", "admin_address": "[::]:7"}) == (
        f"http_address [::1]:7 and admin_address [::]:7 {rule}",
    )
    load_settings({"xds_address": "0.0.0.0:0", "http_address": "127.0.0.1:0"}, {})


def test_a_data_dir_too_long_for_a_socket_is_refused_early() -> None:
    """A Unix socket's path has 107 octets at most, which bind() would say much later."""
    fits = "/" + "d" * (107 - len("//admin.sock"))

    assert load_settings({"data_dir": fits}, {}).settings.data_dir == Path(fits)
    (problem,) = problems_of({"data_dir": fits + "d"})
    assert problem.startswith("data_dir is too long, its admin socket would have a path of 108 oct")


def test_a_data_dir_with_a_comma_is_refused_early() -> None:
    """The server would start, and no command would find its admin socket."""
    (problem,) = problems_of({"data_dir": "/var/lib/a,b"})
    assert problem == (
        "data_dir must not have a comma in its path, since gRPC would take that of the admin "
        "socket for two: /var/lib/a,b"
    )


def test_a_domain_below_another_is_refused() -> None:
    """0.x.apps.internal would be a route of one app, and instance 0 of another one's route x."""
    nested = "x.apps.internal", "apps.internal", "other.internal"

    (problem,) = problems_of({"internal_domains": nested})
    assert problem == (
        "internal_domains has x.apps.internal below apps.internal: a route of one app there could "
        "be the per-index name of another here, so name only one of them"
    )
    beside = "xapps.internal", "apps.internal"
    assert load_settings({"internal_domains": beside}, {}).settings.internal_domains == beside


def test_a_router_bundle_past_cloud_foundrys_bound_is_refused(tmp_path: Path) -> None:
    """T7: trusted CA certificates are at most 512 KiB."""
    bundle = tmp_path / "routers.pem"
    bundle.write_bytes(b"x" * 512 * 1024)
    flags = {"router_ca": str(bundle), "router_sans": "gorouter"}
    assert load_settings(flags, {}).settings.router_ca == bundle

    bundle.write_bytes(b"x" * (512 * 1024 + 1))
    assert problems_of(flags) == (f"router_ca has 524289 bytes and may have 524288: {bundle}",)


def test_settings_made_directly_keep_the_same_rules() -> None:
    """Nobody can construct settings that contradict each other, and nobody can change them."""
    with pytest.raises(ConfigurationError, match="internal_domains is empty"):
        Settings(data_dir=Path("/d"), internal_domains=())
    settings = Settings(data_dir=Path("/d"))
    with pytest.raises(FrozenInstanceError):
        settings.data_dir = Path("/e")  # type: ignore[misc]  # its refusal is the point


def test_a_path_needs_somewhere_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a working directory only what begins at / can be found."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    begin = "to begin at, name it from / on"

    assert problems_of({}, {"C2C_DATA_DIR": "x"}) == (
        f"C2C_DATA_DIR: path has no working directory {begin}: 'x'",
    )
    assert problems_of({"config": "c.toml"}, {"C2C_DATA_DIR": "/d"}) == (
        f"--config: path has no working directory {begin}: 'c.toml'",
    )


def test_a_home_is_needed_for_the_default_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the system does not know, as in a container, names the data directory."""
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    monkeypatch.delenv("HOME", raising=False)

    assert load_settings({}, {"C2C_DATA_DIR": "/data"}).settings.data_dir == Path("/data")
    rule = "path has no home directory to begin at, name it from / on: '~/.local/state/c2c'"
    assert problems_of() == (f"C2C_DATA_DIR is not set, and its default cannot be: {rule}",)
    with pytest.raises(ConfigurationError, match="C2C_DATA_DIR is not set"):
        find_data_dir(None, None, {})


def test_a_path_is_text(tmp_path: Path) -> None:
    """What is no UTF-8 could stand in no configuration; TOML can even say NUL."""
    config = tmp_path / "c2c.toml"
    config.write_text('data_dir = "/a\\u0000b"\n')
    rule = "path must be UTF-8 text without NUL"

    assert problems_of({"config": str(config)}) == (f"data_dir in {config}: {rule}: '/a\\x00b'",)
    assert problems_of({}, {"C2C_DATA_DIR": "/a\udcff"}) == (f"C2C_DATA_DIR: {rule}: '/a\\udcff'",)


@pytest.mark.parametrize("broken", ["data_dir = [", None])
def test_find_data_dir_reads_no_file_that_it_does_not_need(
    tmp_path: Path, broken: str | None
) -> None:
    """Whoever says the directory is not kept from the server by a file that is broken."""
    config = tmp_path / "c2c.toml"
    if broken is not None:
        config.write_text(broken)
    environ = {"C2C_CONFIG": str(config)}

    assert find_data_dir("/flag", None, environ) == Path("/flag")
    assert find_data_dir(None, None, environ | {"C2C_DATA_DIR": "/var"}) == Path("/var")
    with pytest.raises(ConfigurationError, match="C2C_CONFIG: "):
        find_data_dir(None, None, environ)


def test_find_data_dir_reads_one_setting_only(tmp_path: Path) -> None:
    """A command finds the running server although other settings are wrong."""
    config = tmp_path / "c2c.toml"
    config.write_text('data_dir = "/from/file"\nlog_level = "loud"\ncolour = 1\n')
    environ = {"C2C_XDS_ADDRESS": "nonsense", "XDG_STATE_HOME": "/state"}

    assert find_data_dir(None, None, environ) == Path("/state/c2c")
    assert find_data_dir(None, str(config), environ) == Path("/from/file")
    assert find_data_dir("/flag", str(config), environ) == Path("/flag")
    assert find_data_dir(None, None, environ | {"C2C_DATA_DIR": "/var"}) == Path("/var")
    with pytest.raises(ConfigurationError, match="cannot read"):
        find_data_dir(None, str(tmp_path / "missing"), environ)
    with pytest.raises(ConfigurationError, match="--data-dir: path has no home directory"):
        find_data_dir("~nobody-of-this-name/x", None, environ)
    assert admin_socket(Path("/d")) == Path("/d/admin.sock")


@pytest.mark.parametrize(
    ("text", "octets"),
    [("7", 7), ("7B", 7), ("7KiB", 7 * 1024), ("7MiB", 7 * 1024**2), ("7GiB", 7 * 1024**3)],
)
def test_sizes_are_read_by_their_units(text: str, octets: int) -> None:
    """Each unit is 1,024 of the one before; without one it is bytes."""
    assert size_between(1, 2**40)(text) == octets


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(milliseconds=250), "250ms"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(hours=24), "24h"),
        (timedelta(days=90), "90d"),
    ],
)
def test_durations_are_written_as_they_are_read(duration: timedelta, text: str) -> None:
    """What a message says of a duration can be pasted back as a setting."""
    assert format_duration(duration) == text


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (SocketAddress("127.0.5.1", 1), "127.0.5.1:1"),
        (SocketAddress("::1", 2), "[::1]:2"),
        (SocketAddress("control-plane", 3), "control-plane:3"),
    ],
)
def test_socket_addresses_know_their_form(address: SocketAddress, text: str) -> None:
    """An address is written as it is read, IPv6 in brackets."""
    assert str(address) == text


@pytest.mark.parametrize(
    ("names", "host", "known", "warned"),
    [
        ((), "0.0.0.0", "HOST", ["enroll_address"]),
        ((), "::", "HOST", ["enroll_address"]),
        ((), "10.0.0.5", "10.0.0.5", []),
        (("c2c.example", "10.0.0.5"), "0.0.0.0", "c2c.example", []),
    ],
)
def test_where_sidecars_enrol_is_known_or_warned_of(
    names: tuple[str, ...], host: str, known: str, warned: list[str]
) -> None:
    """Nobody can connect to every address of a machine, so such a server needs a name."""
    enroll = SocketAddress(host, 18101)
    settings = Settings(data_dir=Path("/d"), enroll_address=enroll, server_names=names)

    assert enroll_host(settings) == known
    assert [each.setting for each in cautions(settings)] == warned


def test_what_is_a_risk_is_warned_of() -> None:
    """Apps without TLS are allowed to whoever asks for them, and never without a word."""
    (caution,) = cautions(Settings(data_dir=Path("/d"), unproxied_port_mappings=True))

    assert caution.setting == "unproxied_port_mappings"
    assert "becomes the responsibility of the application developer" in caution.reason


def test_a_server_is_reached_by_a_name_that_is_complete() -> None:
    """The final dot, which keeps a resolver from its search domains, is part of no address."""
    assert read_server_address("c2c.example.:18001") == SocketAddress("c2c.example.", 18001)
    for each in ("10.0.0.5.:18001", "[fd00::5.]:18001", "c2c..:18001"):
        with pytest.raises(InvalidArgument, match="not an IP address or host name"):
            read_server_address(each)
