"""OpenAI's Python SDK through the edge: what works."""

import asyncio
import json
import math

import pytest
from conftest import KEY, TEXT, UNICODE, fails, says

ASK = [{"role": "user", "content": "What is a forebay?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}


def joined(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_chat(gpt, sim):
    reply = gpt.chat.completions.create(model="gpt-4o", messages=ASK, **says(TEXT))
    assert reply.choices[0].message.content == TEXT
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens > 0
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply._request_id
    seen = sim.last_request()
    assert json.loads(seen["body"])["model"] == "sim-gpt"
    assert KEY not in json.dumps(seen), "the client's key went upstream"


@pytest.mark.parametrize("asked", [None, False, True])
def test_chat_stream_shows_usage_only_if_asked(gpt, sim, asked):
    wanted = {} if asked is None else {"stream_options": {"include_usage": asked}}
    chunks = list(
        gpt.chat.completions.create(model="gpt-4o", messages=ASK, stream=True, **wanted, **says(TEXT))
    )
    assert joined(chunks) == TEXT
    assert [chunk for chunk in chunks if chunk.choices][-1].choices[0].finish_reason == "stop"
    with_usage = [chunk for chunk in chunks if chunk.usage is not None]
    if asked:
        assert with_usage == chunks[-1:]
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens > 0
    else:
        assert with_usage == []
        assert all(chunk.choices for chunk in chunks), "an empty chunk that the client did not ask for"
    if asked is None:
        assert json.loads(sim.last_request()["body"])["stream_options"] == {"include_usage": True}


def test_chat_stream_helper(gpt):
    with gpt.chat.completions.stream(model="gpt-4o", messages=ASK, **says(TEXT)) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == TEXT


def test_several_choices(gpt):
    chunks = list(gpt.chat.completions.create(model="gpt-4o", messages=ASK, n=3, stream=True))
    ends = {choice.index: choice.finish_reason for chunk in chunks for choice in chunk.choices}
    assert ends == {0: "stop", 1: "stop", 2: "stop"}


def test_tools(gpt):
    reply = gpt.chat.completions.create(model="gpt-4o", messages=ASK, tools=[WEATHER])
    assert reply.choices[0].finish_reason == "tool_calls"
    (call,) = reply.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"city", "days"}
    answer = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    history = [*ASK, reply.choices[0].message.to_dict(), answer]
    second = gpt.chat.completions.create(model="gpt-4o", messages=history, tools=[WEATHER], **says(TEXT))
    assert second.choices[0].message.content == TEXT


def test_tools_in_a_stream(gpt):
    stream = gpt.chat.completions.create(
        model="gpt-4o", messages=ASK, tools=[WEATHER, TIME], stream=True, **says(tool_calls=2)
    )
    calls, fragments = {}, 0
    for chunk in stream:
        for piece in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(piece.index, {"id": piece.id, "name": piece.function.name, "arguments": ""})
            call["arguments"] += piece.function.arguments or ""
            fragments += 1
        finish = chunk.choices[0].finish_reason
    assert finish == "tool_calls"
    assert [calls[index]["name"] for index in sorted(calls)] == ["weather", "time"]
    assert set(json.loads(calls[0]["arguments"])) == {"city", "days"}
    assert json.loads(calls[1]["arguments"]) == {}
    assert calls[0]["id"] != calls[1]["id"]
    assert fragments > 4


def test_tools_in_the_stream_helper(gpt):
    with gpt.chat.completions.stream(model="gpt-4o", messages=ASK, tools=[WEATHER]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert [event.name for event in done] == ["weather"]
    assert set(json.loads(done[0].arguments)) == {"city", "days"}


def test_embeddings(gpt, sim):
    inputs = ["one", "two"]
    reply = gpt.embeddings.create(model="text-embedding-3-small", input=inputs)
    assert json.loads(sim.last_request()["body"])["encoding_format"] == "base64"
    assert [one.index for one in reply.data] == [0, 1]
    for one in reply.data:
        assert math.isclose(sum(x * x for x in one.embedding), 1, rel_tol=1e-3)
    plain = gpt.embeddings.create(model="text-embedding-3-small", input=inputs, encoding_format="float")
    for one, other in zip(reply.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert reply.usage.prompt_tokens > 0


def test_models(gpt):
    listed = [model.id for model in gpt.models.list()]
    assert {"gpt-4o", "text-embedding-3-small", "claude-sonnet-5"} <= set(listed)
    assert not [name for name in listed if "*" in name], "a pattern is no model"
    one = gpt.models.retrieve("gpt-4o")
    assert (one.id, one.object) == ("gpt-4o", "model")


def test_pattern_alias(gpt, sim):
    reply = gpt.chat.completions.create(model="any/sim-gpt", messages=ASK, **says(TEXT))
    assert reply.choices[0].message.content == TEXT
    assert json.loads(sim.last_request()["body"])["model"] == "sim-gpt"


def test_legacy_completions(gpt):
    reply = gpt.completions.create(model="gpt-4o", prompt="Once", **says(TEXT))
    assert reply.choices[0].text == TEXT
    assert reply.usage.completion_tokens > 0
    chunks = list(gpt.completions.create(model="gpt-4o", prompt="Once", stream=True, **says(TEXT)))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == TEXT
    assert all(chunk.usage is None for chunk in chunks)


def test_responses(gpt):
    reply = gpt.responses.create(model="gpt-4o", input="What is a forebay?", **says(TEXT))
    assert (reply.output_text, reply.status) == (TEXT, "completed")
    assert reply.usage.output_tokens > 0
    assert reply._request_id


def test_responses_stream(gpt):
    events = list(gpt.responses.create(model="gpt-4o", input="Go on.", stream=True, **says(TEXT)))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == TEXT
    assert events[-1].response.usage.output_tokens > 0


def test_responses_stream_helper(gpt):
    with gpt.responses.stream(model="gpt-4o", input="Go on.", **says(TEXT)) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == TEXT


def test_responses_tools(gpt):
    tool = {"type": "function", "name": "weather", **WEATHER["function"]}
    with gpt.responses.stream(model="gpt-4o", input="Rain?", tools=[tool]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    (call,) = final.output
    assert (call.type, call.name) == ("function_call", "weather")
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call.arguments
    assert set(json.loads(call.arguments)) == {"city", "days"}


def test_unicode(gpt):
    ask = [{"role": "user", "content": UNICODE}]
    whole = gpt.chat.completions.create(model="gpt-4o", messages=ask, **says(UNICODE))
    assert whole.choices[0].message.content == UNICODE
    # One byte at a time cuts inside characters.
    stream = gpt.chat.completions.create(
        model="gpt-4o", messages=ask, stream=True, **says(UNICODE), **fails("one_byte")
    )
    assert joined(stream) == UNICODE


def test_unicode_goes_upstream_as_it_came(gpt, sim):
    gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": UNICODE}])
    assert json.loads(sim.last_request()["body"])["messages"][0]["content"] == UNICODE


def test_large_messages_both_ways(gpt):
    ask = [{"role": "user", "content": "0123456789abcde " * 65_536}]
    reply = gpt.chat.completions.create(model="gpt-4o", messages=ask, **says("word ", tokens=40_000))
    assert len(reply.choices[0].message.content) >= 160_000
    assert reply.usage.completion_tokens == 40_000


def test_heartbeats_do_not_disturb(gpt):
    # This alias has a heartbeat of 100 ms.
    for fault in ("stall=head,450", "stall=first,450", "stall=2,450"):
        stream = gpt.chat.completions.create(
            model="gpt-quiet", messages=ASK, stream=True, **says(TEXT), **fails(fault)
        )
        assert joined(stream) == TEXT
        with gpt.responses.stream(model="gpt-quiet", input="?", **says(TEXT), **fails(fault)) as stream:
            assert stream.get_final_response().output_text == TEXT


def test_raw_and_streaming_response(gpt):
    raw = gpt.chat.completions.with_raw_response.create(model="gpt-4o", messages=ASK, **says(TEXT))
    assert raw.headers["content-type"].startswith("application/json")
    assert raw.headers["x-request-id"] == raw.request_id
    assert raw.parse().choices[0].message.content == TEXT
    create = gpt.chat.completions.with_streaming_response.create
    with create(model="gpt-4o", messages=ASK, stream=True, **says(TEXT)) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def test_async(async_gpt):
    async def scenario():
        async with async_gpt() as client:
            whole = await client.chat.completions.create(model="gpt-4o", messages=ASK, **says(TEXT))
            assert whole.choices[0].message.content == TEXT
            stream = await client.chat.completions.create(
                model="gpt-4o", messages=ASK, stream=True, **says(TEXT)
            )
            assert joined([chunk async for chunk in stream]) == TEXT
            async with client.responses.stream(model="gpt-4o", input="?", **says(TEXT)) as stream:
                assert (await stream.get_final_response()).output_text == TEXT
            vectors = await client.embeddings.create(model="text-embedding-3-small", input="one")
            assert vectors.data[0].embedding
            assert "gpt-4o" in [model.id async for model in client.models.list()]

    asyncio.run(scenario())


def test_many_streams_at_once_do_not_mix(async_gpt):
    async def one(client, number):
        text = f"stream {number} " * 50
        stream = await client.chat.completions.create(
            model="gpt-4o", messages=ASK, stream=True, **says(text)
        )
        assert joined([chunk async for chunk in stream]) == text

    async def scenario():
        async with async_gpt() as client:
            await asyncio.gather(*(one(client, number) for number in range(32)))

    asyncio.run(scenario())
