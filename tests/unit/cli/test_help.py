"""Help that teaches, and is there at once."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from control_plane.cli import catalog
from control_plane.cli.command import Command, Context
from control_plane.cli.main import program
from control_plane.demo.places import EVERYBODY
from control_plane.settings import find_data_dir
from tests.unit.cli.running import run_c2c

DEADLINE = 30.0
NAMES = [entry.name for group in catalog.GROUPS for entry in group.entries]


def loaded(name: str) -> Command:
    """Import a command."""
    found = program.get_command(Context(program), name)
    assert isinstance(found, Command)

    return found


def test_without_arguments_the_overview_is_shown() -> None:
    """Every command is there under its group, with its summary, as ``cf`` has it."""
    ran = run_c2c()

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("NAME:\n   c2c - ")
    for group in catalog.GROUPS:
        assert f"\n{group.title}:\n   {group.entries[0].name} " in ran.out
        for entry in group.entries:
            assert re.search(
                rf"^   {entry.name} +{re.escape(entry.summary)}$", ran.out, re.MULTILINE
            )
    assert run_c2c("--help") == run_c2c("-h") == run_c2c("help") == run_c2c("help", "-a") == ran


@pytest.mark.parametrize("name", NAMES)
def test_each_command_teaches_itself(name: str) -> None:
    """Its help names it, shows its usage, an example and where to go from here."""
    ran = run_c2c("help", *name.split())
    entry = catalog.find(name)

    assert entry is not None
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"NAME:\n   {name} - {entry.summary}\n\nUSAGE:\n   c2c {name}")
    assert f"\nEXAMPLES:\n   c2c {name}" in ran.out
    assert "\nSEE ALSO:\n   " in ran.out
    words = name.split()
    assert run_c2c(*words, "--help") == run_c2c(*words, "-h") == ran
    assert max(map(len, ran.out.splitlines())) <= 110
    examples = ran.out[ran.out.index("EXAMPLES:") : ran.out.index("SEE ALSO:")].splitlines()
    for line in run_c2c(*words, "--help", COLUMNS="72").out.splitlines():
        assert len(line) <= 72 or line in examples


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_a_help_breaks_an_option(name: str) -> None:
    """At any width an option or a command can be copied: lines are broken between words only."""
    for width in range(70, 111):
        ran = run_c2c(*name.split(), "--help", COLUMNS=str(width))
        assert not re.search(r"\w-$", ran.out, re.MULTILINE), (width, ran.out)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_command_refers_to_exists(name: str) -> None:
    """Each command that is worth a look afterwards is a command, and not this one."""
    assert set(loaded(name).see_also) <= set(NAMES) - {name}


@pytest.mark.parametrize("name", NAMES)
def test_each_example_can_be_pasted(name: str) -> None:
    """An example is a command line that is understood (its redirection aside)."""
    made = loaded(name)
    assert made.examples

    for example in made.examples:
        words = shlex.split(example.partition(">")[0])
        with made.make_context(name, words, parent=Context(program)) as ctx:
            assert isinstance(ctx, click.Context)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_says_what_it_means(name: str) -> None:
    """No option is without help, and each flag that the usage shows exists."""
    made = loaded(name)
    options = [each for each in made.params if isinstance(each, click.Option)]
    known = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}

    assert all(option.help for option in options)
    for usage in made.usage:
        assert set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", usage)) <= known


@pytest.mark.parametrize("name", NAMES)
def test_the_usage_shows_every_option(name: str) -> None:
    """But those of all commands, one that repeats an argument, and what [options] stands for."""
    made = loaded(name)
    common = {flag for each in program.params for flag in each.opts}
    shown = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", " ".join(made.usage)))
    missing = [
        each.opts
        for each in made.params
        if isinstance(each, click.Option)
        and shown.isdisjoint(each.opts)
        and common.isdisjoint(each.opts)
        and not (each.help or "").endswith("as a flag")
    ]

    assert missing == [] or "[options]" in " ".join(made.usage)


def test_what_each_step_of_a_rotation_waits_for_is_told() -> None:
    """It is another thing for each, and before the step or after it."""
    help_of = {
        step: run_c2c("ca", step, "--help").out for step in ("prepare", "activate", "retire")
    }

    assert "Afterwards wait until every instance trusts it" in help_of["prepare"]
    assert "First wait until every instance trusts the prepared CA" in help_of["activate"]
    assert "First wait until nothing that the old CA signed is in use" in help_of["retire"]


@pytest.mark.parametrize("name", ["serve", "check", "apps"])
def test_the_default_of_the_data_directory_is_told(name: str) -> None:
    """Of the server and of those who look for its socket, as it is found without any setting."""
    told = " ".join(run_c2c(name, "--help").out.split())
    base, home = re.findall(r"--data-dir .*?\(Default: c2c in \$(\w+) or (\S+)\)", told)[0]

    assert find_data_dir(None, None, {base: "/state"}) == Path("/state/c2c")
    assert find_data_dir(None, None, {}) == Path(home).expanduser() / "c2c"


def test_the_first_of_two_words_shows_the_commands_that_begin_with_it() -> None:
    """However somebody asks for its help; by itself it is still no command."""
    ran = run_c2c("ca", "--help")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("NAME:\n   ca - Show the CA that signs everything")
    assert "\n   c2c ca (list | prepare | activate | retire) [command options]\n" in ran.out
    for entry in catalog.family("ca"):
        assert re.search(rf"^   {entry.name} +{re.escape(entry.summary)}$", ran.out, re.MULTILINE)
    assert run_c2c("ca", "-h") == run_c2c("help", "ca") == ran
    assert ran.out.endswith("\nSEE ALSO:\n   c2c help ca list\n")
    assert run_c2c("ca").code == 1
    assert {entry.name.split()[0] for entry in catalog.family("ca")} == set(catalog.FAMILIES)


def test_the_version_is_an_option_too() -> None:
    """As programs have it, whatever else is said."""
    version = run_c2c("version")

    assert (version.code, version.err) == (0, "")
    assert run_c2c("--version") == run_c2c("-v") == run_c2c("-v", "apps") == version


def test_the_demo_says_how_many_envoys_it_runs() -> None:
    """Wherever it is promised, the number is that of the instances, each of which has its own."""
    number = {2: "two", 3: "three", 4: "four"}[len(EVERYBODY)]
    makefile = Path(__file__).parents[3] / "Makefile"

    for text in (run_c2c().out, run_c2c("help", "demo").out, makefile.read_text()):
        assert set(re.findall(r"(?:on|and) (\w+) real Envoys", text)) == {number}


def test_the_overview_loads_nothing_that_it_does_not_need() -> None:
    """It is there at once, since neither gRPC nor a single command is imported for it."""
    code = (
        "import sys; from control_plane.cli.main import program; sys.argv = ['c2c']\n"
        "try: program.main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('grpc', 'google', 'rich', 'cryptography', 'control_plane.cli.apps')"
        " if m in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True
    )

    assert "GETTING STARTED" in ran.stdout
    assert ran.stderr == "[]\n"


def completed(words: str, index: int) -> list[str]:
    """Return what a shell is told of a word of a line, and nothing else is said."""
    ran = run_c2c(_C2C_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(index))
    assert (ran.code, ran.err) == (0, "")

    return [line.partition(",")[2] for line in ran.out.splitlines()]


def test_shells_complete_commands_of_two_words_one_by_one() -> None:
    """The first of them is there once, and the second behind it; for help too."""
    steps = ["list", "prepare", "activate", "retire"]

    assert completed("c2c c", 1) == ["check", "create-app", "certs", "ca"]
    assert completed("c2c ca ", 2) == completed("c2c help ca ", 3) == steps
    assert completed("c2c ca pre", 2) == ["prepare"]
    assert completed("c2c ca prepare --u", 3) == ["--undo"]
    assert completed("c2c help st", 2) == ["status"]
    assert completed("c2c nope --x", 2) == [""]


def test_shells_complete_commands_and_options() -> None:
    """Completion is click's: the commands, their options, and the values of choices."""
    assert "map-route" in completed("c2c map-", 1)
    assert "--hostname" in completed("c2c map-route --host", 2)
    assert {"committed", "acked", "served"} <= set(completed("c2c map-route --wait ", 3))
    for command in ("add-network-policy", "remove-network-policy"):
        assert completed(f"c2c {command} --protocol ", 3) == ["tcp", "udp"]
    assert completed("c2c sidecar --address a", 3) == ["auto"]
    assert completed("c2c sidecar --log-level w", 3) == ["warning"]
    assert completed("c2c sidecar --log-format ", 3) == ["auto", "json", "console"]


def test_no_color_is_honoured() -> None:
    """Whoever sets NO_COLOR or TERM=dumb gets plain text also where colors would be forced."""
    code = "from control_plane.cli.main import program; program.main(['apps'], color=True)"
    variables = {"PATH": "/usr/bin:/bin", "C2C_DATA_DIR": "/nonexistent"}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=env,
            timeout=DEADLINE,
            check=False,
        ).stdout
        for env in (variables, {**variables, "NO_COLOR": "1"}, {**variables, "TERM": "dumb"})
    ]

    assert ["\x1b[" in output for output in outputs] == [True, False, False]
