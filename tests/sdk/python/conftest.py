"""Clients of the edge that `tests/sdk/run` started, over TLS, each test once with HTTP/1.1 and once with HTTP/2."""

import os
import ssl
import time

import anthropic
import httpx2
import openai
import pytest

HTTPS, HTTP, SIM, SLOW_SIM, CA, KEY = (
    os.environ.get(name, "")
    for name in ("FOREBAY_HTTPS", "FOREBAY_HTTP", "FOREBAY_SIM", "FOREBAY_SLOW_SIM", "FOREBAY_CA", "FOREBAY_KEY")
)

# How soon the simulator must have noticed that a client left, in seconds. The edge needs milliseconds; the rest is
# for a machine that is busy with other things.
PROMPTLY = 1.0

# Replies that the simulator is told to give.
TEXT = "A forebay evens the flow, and gates the intakes."
# Right-to-left, combining, joined emoji, beyond the basic plane, and what JSON and SSE use themselves.
UNICODE = 'naïve \u05e9\u05dc\u05d5\u05dd e\u0301 \U0001f469\u200d\U0001f680 \U00010348 \u2028 data: "x"\\ [DONE]'


def pytest_configure():
    """Says what is missing, rather than failing test by test."""
    if not all((HTTPS, HTTP, SIM, SLOW_SIM, CA, KEY)):
        raise pytest.UsageError("these tests need an edge: run `tests/sdk/run`")


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def protocol(request):
    """The version of HTTP that the client speaks."""
    return request.param


def options(protocol):
    """What makes an HTTP client speak that version, trust the edge, and fail if it speaks another."""

    def check(response):
        assert response.http_version == protocol

    async def check_async(response):
        check(response)

    shared = {"http2": protocol == "HTTP/2", "verify": ssl.create_default_context(cafile=CA)}
    return (
        shared | {"event_hooks": {"response": [check]}},
        shared | {"event_hooks": {"response": [check_async]}},
    )


@pytest.fixture
def http(protocol):
    """A plain HTTP client, for what an SDK does not show."""
    with httpx2.Client(base_url=HTTPS, timeout=30, **options(protocol)[0]) as client:
        yield client


@pytest.fixture
def gpt(protocol):
    """OpenAI's client."""
    client = openai.DefaultHttpxClient(**options(protocol)[0])
    with openai.OpenAI(api_key=KEY, base_url=f"{HTTPS}/v1", max_retries=0, http_client=client) as made:
        yield made


@pytest.fixture
def async_gpt(protocol):
    """Makes OpenAI's asynchronous client; to be called inside the loop."""

    def make():
        client = openai.DefaultAsyncHttpxClient(**options(protocol)[1])
        return openai.AsyncOpenAI(api_key=KEY, base_url=f"{HTTPS}/v1", max_retries=0, http_client=client)

    return make


@pytest.fixture
def claude(protocol):
    """Anthropic's client."""
    client = anthropic.DefaultHttpxClient(**options(protocol)[0])
    with anthropic.Anthropic(api_key=KEY, base_url=HTTPS, max_retries=0, http_client=client) as made:
        yield made


@pytest.fixture
def async_claude(protocol):
    """Makes Anthropic's asynchronous client; to be called inside the loop."""

    def make():
        client = anthropic.DefaultAsyncHttpxClient(**options(protocol)[1])
        return anthropic.AsyncAnthropic(api_key=KEY, base_url=HTTPS, max_retries=0, http_client=client)

    return make


def says(text=None, tokens=None, tool_calls=None):
    """Has the simulator answer so: a member of the body, which the edge passes on as it does any other."""
    told = {"text": text, "tokens": tokens, "tool_calls": tool_calls}
    return {"extra_body": {"sim": {key: value for key, value in told.items() if value is not None}}}


def fails(fault):
    """Has the simulator fail so: a header that the edge passes on to simulators."""
    return {"extra_headers": {"x-sim-fault": fault}}


def left(client, protocol):
    """Makes it known that a stream was left, where the HTTP client does not.

    Python's HTTP/2 stack resets no stream that it stops reading; only a closed connection tells the server. What
    the edge does with a reset is tested in `test_wire.py`, and by the JavaScript SDKs, whose stack does send one.
    """
    if protocol == "HTTP/2":
        client.close()


async def left_async(client, protocol):
    """As `left`."""
    if protocol == "HTTP/2":
        await client.close()


class Sim:
    """What the simulator saw."""

    def __init__(self, http):
        self.http = http

    def stats(self):
        """Its counters."""
        return self.http.get("/sim/stats").raise_for_status().json()

    def last_request(self):
        """The latest request of a model."""
        calls = [one for one in self.http.get("/sim/requests").json() if one["method"] == "POST"]
        return calls[-1] | {"headers": dict(calls[-1]["headers"])}

    def cancelled(self):
        """How many clients have left it before the end."""
        return sum(self.stats()["cancelled"].values())

    def wait_for_cancel(self, before):
        """Waits until one more client has left and nothing is being generated; fails if that is not soon."""
        deadline = time.monotonic() + PROMPTLY
        while True:
            stats = self.stats()
            if sum(stats["cancelled"].values()) > before and stats["active"] == 0:
                return stats
            assert time.monotonic() < deadline, f"still not cancelled after {PROMPTLY} s: {stats}"
            time.sleep(0.002)


@pytest.fixture
def sim():
    """The simulator behind most models."""
    with httpx2.Client(base_url=SIM, timeout=10) as client:
        yield Sim(client)


@pytest.fixture
def slow_sim():
    """The simulator behind the models named slow, which makes 200 tokens a second."""
    with httpx2.Client(base_url=SLOW_SIM, timeout=10) as client:
        yield Sim(client)
