"""Names of the form ``xdstp://authority/type/id?context``, and the collections that they belong to.

The rules of this module (quotations are from "TP1: xdstp:// structured resource naming"):

- "Two xdstp:// URNs are considered equivalent if they match component-wise modulo context parameter
  ordering." So each name has a canonical form: its context parameters are sorted, and only those
  characters are percent-encoded that have to be.
- A name that ends in ``/*`` stands for a collection. Its members differ from it in nothing but the
  last path component; their context parameters are the same: "context parameters in the request
  must be matched in responses". So the name of a resource tells which collection it belongs to, and
  there is only one.
- A name that does not begin with ``xdstp:`` has no structure, whatever characters it has.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from control_plane.names import shown

SCHEME = "xdstp:"

_FORM = re.compile(r"xdstp://([^/?#]*)/([^/?#]+)/([^?#]+)(?:\?([^#]*))?")

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

# The characters that RFC 3986 allows unencoded in a path and in a query, except for the "&" and "="
# that separate parameters.
_IN_PATH = "/!$&'()*+,;=:@"
_IN_QUERY = "/?!$'()*+,;:@"


def canonical(name: str) -> str:
    """Return the canonical form of a name; an unstructured name is its own.

    Raises:
        ValueError: the name begins with ``xdstp:`` but is malformed.
    """
    if not name.startswith(SCHEME):
        return name
    found = _FORM.fullmatch(name)
    if found is None or _BROKEN_ESCAPE.search(name):
        raise ValueError(f"{shown(name)} is not of the form xdstp://authority/type/id?key=value")
    authority, kind, identifier, context = found.groups()
    try:
        path = "/".join((_encoded(authority, ""), kind, _encoded(identifier, _IN_PATH)))
        parameters = _parameters(context) if context else {}
    except ValueError as error:
        raise ValueError(f"{error} in {shown(name)}") from error
    query = "&".join(f"{key}={parameters[key]}" for key in sorted(parameters))
    return f"{SCHEME}//{path}?{query}" if query else f"{SCHEME}//{path}"


def is_glob(name: str) -> bool:
    """Tell whether a canonical name stands for a collection."""
    return name.startswith(SCHEME) and name.partition("?")[0].endswith("/*")


def collection_of(name: str) -> str | None:
    """Return the collection that a canonical name belongs to; None if the name has no structure."""
    if not name.startswith(SCHEME):
        return None
    path, mark, context = name.partition("?")
    return f"{path.rpartition('/')[0]}/*{mark}{context}"


def _parameters(context: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for each in context.split("&"):
        key, _, value = (_encoded(part, _IN_QUERY) for part in each.partition("="))
        if not key:
            raise ValueError("a context parameter without a key")
        if parameters.setdefault(key, value) != value:
            raise ValueError(f"two values of the context parameter {shown(key)}")
    return parameters


def _encoded(text: str, safe: str) -> str:
    try:
        return quote(unquote(text, errors="strict"), safe)
    except UnicodeError:
        raise ValueError("percent-encoded bytes that are no UTF-8") from None
