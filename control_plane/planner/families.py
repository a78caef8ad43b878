"""Whether a caller has an address of the family by which it can be let in.

The rule of this module: a policy lets in the addresses of instances. An instance with an IPv6
address is called from an IPv6 address, so a caller that is known by an IPv4 address is a stranger
there.
"""

from __future__ import annotations

from control_plane.model.entities import App, Instance
from control_plane.planner.chain import Link, LinkKind, Question, label, missing, remaining


def other_families(question: Question, source: App, app: App) -> Link | None:
    """Return the missing link if an instance of the caller cannot be let in; None otherwise."""
    there = remaining(question.state.instances_of(source.guid))
    callers = {_family(each): each for each in there}
    for called in remaining(question.instances_of(app)):
        for family, caller in callers.items():
            if family != _family(called):
                sentence = (
                    f"{label(app, called)} lets in addresses of {_family(called)} at "
                    f"{called.address}, and {label(source, caller)} is known by {caller.address}"
                )
                advice = "start both sidecars with an --address of the same family"
                return missing(LinkKind.POLICY, sentence, advice=advice)
    return None


def _family(instance: Instance) -> str:
    return "IPv6" if ":" in instance.address else "IPv4"
