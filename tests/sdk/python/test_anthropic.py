"""Anthropic's Python SDK through the edge: what works."""

import asyncio
import json

import anthropic
from conftest import HTTPS, KEY, TEXT, UNICODE, fails, options, says

ASK = {
    "model": "claude-sonnet-5",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": "What is a forebay?"}],
}
WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}


def test_message(claude, sim):
    reply = claude.messages.create(**ASK, system="Be brief.", **says(TEXT))
    assert [block.text for block in reply.content] == [TEXT]
    assert reply.stop_reason == "end_turn"
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    assert reply._request_id
    seen = sim.last_request()
    assert json.loads(seen["body"])["model"] == "sim-claude"
    assert seen["headers"]["anthropic-version"] == claude.default_headers["anthropic-version"]
    assert KEY not in json.dumps(seen), "the client's key went upstream"


def test_stream(claude):
    events = list(claude.messages.create(**ASK, stream=True, **says(TEXT)))
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    deltas = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert "".join(deltas) == TEXT
    (end,) = [event for event in events if event.type == "message_delta"]
    assert end.delta.stop_reason == "end_turn"
    assert end.usage.output_tokens > 0


def test_stream_helper(claude):
    with claude.messages.stream(**ASK, **says(TEXT)) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == TEXT
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


def test_tools(claude):
    reply = claude.messages.create(**ASK, tools=[WEATHER])
    assert reply.stop_reason == "tool_use"
    (call,) = reply.content
    assert (call.type, call.name) == ("tool_use", "weather")
    assert set(call.input) == {"city", "days"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    history = [
        *ASK["messages"],
        {"role": "assistant", "content": [call.to_dict()]},
        {"role": "user", "content": [result]},
    ]
    second = claude.messages.create(**(ASK | {"messages": history}), tools=[WEATHER], **says(TEXT))
    assert second.content[0].text == TEXT


def test_tools_in_a_stream(claude):
    with claude.messages.stream(**ASK, tools=[WEATHER], **says(tool_calls=2)) as stream:
        pieces = {}
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                pieces[event.index] = pieces.get(event.index, "") + event.delta.partial_json
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert [block.name for block in final.content] == ["weather", "weather"]
    assert len({block.id for block in final.content}) == 2
    for index, block in enumerate(final.content):
        assert json.loads(pieces[index]) == block.input
        assert set(block.input) == {"city", "days"}


def test_count_tokens(claude):
    asked = {key: ASK[key] for key in ("model", "messages")}
    few = claude.messages.count_tokens(**asked).input_tokens
    many = claude.messages.count_tokens(**asked, system="word " * 500).input_tokens
    assert 0 < few < many


def test_models(claude):
    listed = [model.id for model in claude.models.list()]
    assert "claude-sonnet-5" in listed
    one = claude.models.retrieve("claude-sonnet-5")
    assert (one.id, one.type) == ("claude-sonnet-5", "model")


def test_beta(claude):
    # The beta namespace asks for the same path with a query.
    reply = claude.beta.messages.create(**ASK, betas=["context-1m-2025-08-07"], **says(TEXT))
    assert reply.content[0].text == TEXT
    with claude.beta.messages.stream(**ASK, **says(TEXT)) as stream:
        assert stream.get_final_message().content[0].text == TEXT


def test_bearer_token(protocol):
    client = anthropic.DefaultHttpxClient(**options(protocol)[0])
    with anthropic.Anthropic(
        auth_token=KEY, api_key=None, base_url=HTTPS, max_retries=0, http_client=client
    ) as made:
        assert made.messages.create(**ASK, **says(TEXT)).content[0].text == TEXT


def test_unicode(claude):
    ask = ASK | {"messages": [{"role": "user", "content": UNICODE}]}
    assert claude.messages.create(**ask, **says(UNICODE)).content[0].text == UNICODE
    with claude.messages.stream(**ask, **says(UNICODE), **fails("one_byte")) as stream:
        assert "".join(stream.text_stream) == UNICODE


def test_heartbeats_do_not_disturb(claude):
    # This alias has a heartbeat of 100 ms.
    for fault in ("stall=head,450", "stall=first,450", "stall=3,450"):
        with claude.messages.stream(**(ASK | {"model": "claude-quiet"}), **says(TEXT), **fails(fault)) as stream:
            assert stream.get_final_message().content[0].text == TEXT


def test_async(async_claude):
    async def scenario():
        async with async_claude() as client:
            whole = await client.messages.create(**ASK, **says(TEXT))
            assert whole.content[0].text == TEXT
            async with client.messages.stream(**ASK, **says(TEXT)) as stream:
                assert "".join([text async for text in stream.text_stream]) == TEXT
            asked = {key: ASK[key] for key in ("model", "messages")}
            assert (await client.messages.count_tokens(**asked)).input_tokens > 0

    asyncio.run(scenario())
