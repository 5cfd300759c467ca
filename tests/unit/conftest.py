"""Hypothesis: how long an example takes says nothing on a loaded machine."""

from hypothesis import settings

settings.register_profile("kist", deadline=None)
settings.load_profile("kist")
