"""Google's SDK through the edge, before Gemini and before another dialect: what only it has."""

import asyncio

import pytest
from clients import Google, told
from conftest import TEXT
from google.genai import errors, types


@pytest.fixture(scope="module")
def client():
    """Its client."""
    return Google().client


@pytest.fixture(params=["via-gemini", "via-vertex", "via-messages"])
def model(request):
    """An alias before Gemini, on each of Google's clouds, and before Anthropic."""
    return request.param


def weather(city: str, days: int) -> str:
    """The weather of a city.

    Args:
        city: its name
        days: how many
    """
    return f"{days} days of rain in {city}"


def test_chat_session(client, model):
    chat = client.chats.create(model=model)
    assert chat.send_message(told(text=TEXT)).text == TEXT
    pieces = [chunk.text or "" for chunk in chat.send_message_stream(told("And then?", text="So it goes."))]
    assert "".join(pieces) == "So it goes."
    # Each piece of a stream is a turn of its own there.
    roles = [content.role for content in chat.get_history()]
    assert roles[:4] == ["user", "model", "user", "model"]
    assert chat.send_message(told("Once more.", text=TEXT)).text == TEXT


def test_functions_are_called_by_the_sdk_itself(client, model):
    config = types.GenerateContentConfig(tools=[weather])
    reply = client.models.generate_content(model=model, contents="Weather?", config=config)
    assert reply.text
    history = reply.automatic_function_calling_history
    assert history[1].parts[0].function_call.name == "weather"
    assert "days of rain in" in history[2].parts[0].function_response.response["result"]


def test_count_tokens(client, model):
    few = client.models.count_tokens(model=model, contents="one two").total_tokens
    many = client.models.count_tokens(model=model, contents="word " * 500).total_tokens
    assert 0 < few < many


def test_system_and_thoughts(client, model):
    config = types.GenerateContentConfig(
        system_instruction="Be brief.", thinking_config=types.ThinkingConfig(include_thoughts=True)
    )
    prompt = told(text=TEXT, reasoning="So be it.")
    replies = list(client.models.generate_content_stream(model=model, contents=prompt, config=config))
    parts = [part for reply in replies for part in reply.parts or [] if part.text]
    assert "".join(part.text for part in parts if part.thought) == "So be it."
    assert "".join(part.text for part in parts if not part.thought) == TEXT


def test_structured_output(client, model):
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    schema |= {"required": ["city", "days"], "additionalProperties": False}
    config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=schema)
    reply = client.models.generate_content(model=model, contents="Weather?", config=config)
    assert set(reply.parsed) == {"city", "days"}


def test_models(client):
    assert "models/gpt-4o" in [model.name for model in client.models.list()]


def test_async(model):
    async def scenario():
        # A client of its own: its connections belong to this loop.
        client = Google().client
        whole = await client.aio.models.generate_content(model=model, contents=told(text=TEXT))
        assert whole.text == TEXT
        stream = await client.aio.models.generate_content_stream(model=model, contents=told(text=TEXT))
        assert "".join([chunk.text or "" async for chunk in stream]) == TEXT
        await client.aio.aclose()

    asyncio.run(scenario())


def test_errors(client):
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model="via-messages", contents=told(fault="status=429;retry_after=7"))
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    stranger = Google(key="sk-wrong").client
    with pytest.raises(errors.ClientError) as caught:
        stranger.models.generate_content(model="via-gemini", contents="?")
    assert caught.value.code in (400, 401, 403)
