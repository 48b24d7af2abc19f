"""What LangChain's standard tests ask of a model, of an edge that `tests/sdk/run` started."""

import os

import pytest

HTTPS, CA, KEY = (os.environ.get(name, "") for name in ("FOREBAY_HTTPS", "FOREBAY_CA", "FOREBAY_KEY"))

# Nothing is told to anybody, and the HTTP clients that LangChain makes for itself trust the edge.
os.environ["LANGSMITH_TRACING"] = "false"
os.environ["SSL_CERT_FILE"] = CA


def pytest_configure():
    """Says what is missing, rather than failing test by test."""
    if not all((HTTPS, CA, KEY)):
        raise pytest.UsageError("these tests need an edge: run `tests/sdk/run`")
