"""Anthropic's Python SDK through the edge: what goes wrong, and how the SDK tells its user."""

import asyncio
import time

import anthropic
import pytest
from conftest import fails, left, left_async, says
from test_anthropic import ASK


def create(client, **more):
    return client.messages.create(**(ASK | more))


def count(client, **more):
    asked = {key: ASK[key] for key in ("model", "messages")}
    return client.messages.count_tokens(**(asked | more))


CALLS = pytest.mark.parametrize("call", [create, count])


def assert_told(error, status, kind):
    """The SDK shows the whole body, and the id by which the edge logged the exchange."""
    assert error.status_code == status
    assert error.body["type"] == "error"
    assert error.body["error"]["type"] == kind
    assert error.body["error"]["message"]
    assert error.response.headers["x-request-id"]
    assert error.request_id, "this SDK takes the id from the header `request-id`"


@CALLS
def test_wrong_key(claude, call):
    with pytest.raises(anthropic.AuthenticationError) as caught:
        call(claude.with_options(api_key="sk-wrong"))
    assert_told(caught.value, 401, "authentication_error")


@CALLS
def test_unknown_model(claude, call):
    with pytest.raises(anthropic.NotFoundError) as caught:
        call(claude, model="claude-nobody")
    assert_told(caught.value, 404, "not_found_error")
    assert "claude-nobody" in str(caught.value)


@CALLS
def test_rate_limit(claude, call):
    with pytest.raises(anthropic.RateLimitError) as caught:
        call(claude, **fails("status=429;retry_after=7"))
    assert_told(caught.value, 429, "rate_limit_error")
    assert caught.value.response.headers["retry-after"] == "7"


@CALLS
def test_server_error(claude, call):
    with pytest.raises(anthropic.InternalServerError) as caught:
        call(claude, **fails("status=500"))
    assert_told(caught.value, 500, "api_error")


@pytest.mark.parametrize("stream", [False, True])
def test_overloaded(claude, stream):
    with pytest.raises(anthropic.InternalServerError) as caught:
        create(claude, stream=stream, **fails("status=529"))
    assert_told(caught.value, 529, "overloaded_error")


def test_html_from_a_balancer_becomes_an_error_of_the_api(claude):
    with pytest.raises(anthropic.InternalServerError) as caught:
        create(claude, **fails("html=502"))
    assert_told(caught.value, 500, "api_error")


def test_refused_by_the_upstream(claude):
    with pytest.raises(anthropic.BadRequestError) as caught:
        create(claude, messages=[])
    assert_told(caught.value, 400, "invalid_request_error")


def test_refused_by_the_edge(claude):
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.post("/v1/messages", cast_to=object, body={"messages": ASK["messages"], "max_tokens": 3})
    assert_told(caught.value, 400, "invalid_request_error")
    assert "model" in str(caught.value)


def test_time_out(claude, sim, protocol):
    before, began = sim.cancelled(), time.monotonic()
    with pytest.raises(anthropic.APITimeoutError):
        create(claude.with_options(timeout=0.4), **fails("stall"))
    assert time.monotonic() - began < 5
    left(claude, protocol)
    sim.wait_for_cancel(before)


def test_abort_mid_stream(claude, slow_sim, protocol):
    before = slow_sim.cancelled()
    ask = ASK | {"model": "claude-slow", "max_tokens": 20_000}
    with claude.messages.stream(**ask, **says(tokens=20_000)) as stream:
        for _ in zip(range(8), stream.text_stream, strict=False):
            pass
        made = slow_sim.stats()["output_tokens"]
    left(claude, protocol)
    after = slow_sim.wait_for_cancel(before)
    assert after["output_tokens"] - made < 300


@pytest.mark.parametrize("fault", ["cut=4", "reset=4", "bad_chunk=4", "error_event=4"])
def test_a_broken_stream_is_never_a_silent_end(claude, fault):
    events = []
    with pytest.raises(anthropic.APIError) as caught:
        for event in create(claude, stream=True, **says("one two three four five six"), **fails(fault)):
            events.append(event)
    assert len(events) >= 3, "what had come before the break was lost"
    assert caught.value.message


@pytest.mark.parametrize("fault", ["reset_before_head", "cut=1", "wrong_length=long"])
def test_a_broken_reply_is_an_error(claude, fault):
    with pytest.raises(anthropic.InternalServerError) as caught:
        create(claude, **fails(fault))
    assert_told(caught.value, 500, "api_error")


def test_async_errors(async_claude, slow_sim, protocol):
    async def scenario():
        async with async_claude() as client:
            with pytest.raises(anthropic.RateLimitError):
                await create(client, **fails("status=429"))
            with pytest.raises(anthropic.APITimeoutError):
                await create(client.with_options(timeout=0.4), **fails("stall"))
            with pytest.raises(anthropic.APIError):
                async for _ in await create(client, stream=True, **fails("cut=4")):
                    pass
            before = slow_sim.cancelled()
            stream = await create(client, model="claude-slow", stream=True, **says(tokens=1_000))
            await anext(stream)
            await stream.close()
            await left_async(client, protocol)
            slow_sim.wait_for_cancel(before)

    asyncio.run(scenario())
