"""Gateways behind these pages are forked, as those of the acceptance tests."""

from tests.acceptance.conftest import fork_server, forked

__all__ = ["fork_server", "forked"]
