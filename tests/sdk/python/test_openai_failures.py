"""OpenAI's Python SDK through the edge: what goes wrong, and how the SDK tells its user."""

import asyncio
import time

import openai
import pytest
from conftest import fails, left, left_async, says

ASK = [{"role": "user", "content": "What is a forebay?"}]


def chat(client, **more):
    return client.chat.completions.create(**({"model": "gpt-4o", "messages": ASK} | more))


def embed(client, **more):
    return client.embeddings.create(**({"model": "text-embedding-3-small", "input": "one"} | more))


def respond(client, **more):
    return client.responses.create(**({"model": "gpt-4o", "input": "one"} | more))


CALLS = pytest.mark.parametrize("call", [chat, embed, respond])


def assert_told(error, status, code):
    """The SDK shows the parts of the error body, and the id by which the edge logged the exchange."""
    assert (error.status_code, error.code) == (status, code)
    assert error.body["message"]
    assert error.type
    assert error.request_id
    assert error.request_id == error.response.headers["x-request-id"]


@CALLS
def test_wrong_key(gpt, call):
    with pytest.raises(openai.AuthenticationError) as caught:
        call(gpt.with_options(api_key="sk-wrong"))
    assert_told(caught.value, 401, "invalid_api_key")


@pytest.mark.parametrize("call", [chat, embed])
def test_unknown_model(gpt, call):
    with pytest.raises(openai.NotFoundError) as caught:
        call(gpt, model="gpt-nobody")
    assert_told(caught.value, 404, "model_not_found")
    assert "gpt-nobody" in caught.value.message


def test_unknown_model_in_responses(gpt):
    # The Responses API itself answers 400.
    with pytest.raises(openai.BadRequestError) as caught:
        respond(gpt, model="gpt-nobody")
    assert_told(caught.value, 400, "model_not_found")
    assert caught.value.param == "model"


def test_unknown_model_to_retrieve(gpt):
    with pytest.raises(openai.NotFoundError) as caught:
        gpt.models.retrieve("gpt-nobody")
    assert_told(caught.value, 404, "model_not_found")


@pytest.mark.parametrize(
    ("call", "more"),
    [(chat, {}), (chat, {"stream": True}), (embed, {}), (respond, {}), (respond, {"stream": True})],
)
def test_rate_limit(gpt, call, more):
    with pytest.raises(openai.RateLimitError) as caught:
        call(gpt, **more, **fails("status=429;retry_after=7"))
    assert_told(caught.value, 429, "rate_limit_exceeded")
    assert caught.value.response.headers["retry-after"] == "7"


@CALLS
def test_server_error(gpt, call):
    with pytest.raises(openai.InternalServerError) as caught:
        call(gpt, **fails("status=500"))
    assert caught.value.status_code == 500
    assert caught.value.request_id
    assert "simulated error" in caught.value.message


def test_html_from_a_balancer_becomes_an_error_of_the_api(gpt):
    with pytest.raises(openai.InternalServerError) as caught:
        chat(gpt, **fails("html=502"))
    assert caught.value.status_code == 502
    assert caught.value.type == "server_error"
    assert "<" not in caught.value.message


def test_refused_by_the_upstream(gpt):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(gpt, messages=[])
    assert caught.value.param == "messages"


def test_refused_by_the_edge(gpt):
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.post("/chat/completions", cast_to=object, body={"messages": ASK})
    assert "model" in caught.value.message
    assert caught.value.type == "invalid_request_error"


def test_broken_json(http):
    reply = http.post(
        "/v1/chat/completions",
        content=b'{"model": "gpt-4o", "messages": [',
        headers={"authorization": "Bearer sk-test", "content-type": "application/json"},
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


@CALLS
def test_time_out(gpt, sim, call, protocol):
    before, began = sim.cancelled(), time.monotonic()
    with pytest.raises(openai.APITimeoutError):
        call(gpt.with_options(timeout=0.4), **fails("stall"))
    assert time.monotonic() - began < 5
    left(gpt, protocol)
    sim.wait_for_cancel(before)


def test_time_out_inside_a_stream(gpt, sim, protocol):
    before, seen = sim.cancelled(), []
    with pytest.raises(openai.APITimeoutError):
        for chunk in chat(gpt.with_options(timeout=0.4), stream=True, **fails("stall=4")):
            seen.append(chunk)
    assert len(seen) == 4
    left(gpt, protocol)
    sim.wait_for_cancel(before)


@pytest.mark.parametrize("call", [chat, respond])
def test_abort_mid_stream(gpt, slow_sim, call, protocol):
    before = slow_sim.cancelled()
    stream = call(gpt, model="gpt-slow", stream=True, **says(tokens=100_000))
    for _ in range(8):
        next(stream)
    made = slow_sim.stats()["output_tokens"]
    stream.close()
    left(gpt, protocol)
    after = slow_sim.wait_for_cancel(before)
    assert after["output_tokens"] - made < 300


def test_abort_by_leaving_the_helper(gpt, slow_sim, protocol):
    before = slow_sim.cancelled()
    with gpt.chat.completions.stream(model="gpt-slow", messages=ASK, **says(tokens=100_000)) as stream:
        next(stream)
    left(gpt, protocol)
    slow_sim.wait_for_cancel(before)


def test_abort_before_the_first_event(async_gpt, sim, protocol):
    async def scenario():
        async with async_gpt() as client:
            task = asyncio.create_task(chat(client, stream=True, **fails("stall")))
            while sim.stats()["active"] + sim.stats()["queued"] == 0:
                await asyncio.sleep(0.002)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await left_async(client, protocol)
            sim.wait_for_cancel(before)

    before = sim.cancelled()
    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["cut=6", "reset=6", "bad_chunk=6", "error_event=3"])
@pytest.mark.parametrize("call", [chat, respond])
def test_a_broken_stream_is_never_a_silent_end(gpt, call, fault):
    events = []
    with pytest.raises(openai.APIError) as caught:
        for event in call(gpt, stream=True, **says("one two three four five six"), **fails(fault)):
            events.append(event)
    assert len(events) >= 3, "what had come before the break was lost"
    assert caught.value.message


def test_a_stream_without_events_is_an_error(gpt):
    with pytest.raises(openai.APIError):
        list(chat(gpt, stream=True, **fails("empty_stream")))


@pytest.mark.parametrize("fault", ["reset_before_head", "garbage_head", "cut=1", "reset=1", "wrong_length=long"])
def test_a_broken_reply_is_an_error(gpt, fault):
    with pytest.raises(openai.InternalServerError) as caught:
        chat(gpt, **fails(fault))
    assert caught.value.status_code == 502
    assert caught.value.request_id


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_compressed_unasked_is_never_garbage(gpt, stream):
    ask = {"stream": stream, **says("one two three"), **fails("gzip")}
    try:
        reply = chat(gpt, **ask)
        if stream:
            text = "".join(choice.delta.content or "" for chunk in reply for choice in chunk.choices)
        else:
            text = reply.choices[0].message.content
    except openai.InternalServerError as error:
        assert error.status_code == 502
    else:
        assert text == "one two three"


def test_async_errors(async_gpt, slow_sim, protocol):
    async def scenario():
        async with async_gpt() as client:
            with pytest.raises(openai.RateLimitError):
                await chat(client, **fails("status=429"))
            with pytest.raises(openai.APITimeoutError):
                await chat(client.with_options(timeout=0.4), **fails("stall"))
            with pytest.raises(openai.APIError):
                async for _ in await chat(client, stream=True, **fails("cut=6")):
                    pass
            before = slow_sim.cancelled()
            stream = await chat(client, model="gpt-slow", stream=True, **says(tokens=100_000))
            await anext(stream)
            await stream.close()
            await left_async(client, protocol)
            slow_sim.wait_for_cancel(before)

    asyncio.run(scenario())


def test_retries_of_the_sdk_arrive(gpt, sim):
    before = sim.stats()["statuses"].get("500", 0)
    with pytest.raises(openai.InternalServerError):
        chat(gpt.with_options(max_retries=1), **fails("status=500"))
    assert sim.stats()["statuses"]["500"] == before + 2
