"""What holds for every test: how Hypothesis searches, on a developer's machine and in CI."""

from __future__ import annotations

import os

from hypothesis import settings

# A test that draws other examples on each run finds more, but only where somebody can look into it.
settings.register_profile("developer", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")
