"""Cohere's SDK, a witness of the simulator: straight to it, and through a raw route of the edge."""

import os
import ssl

import cohere
import httpx
import pytest
from clients import SCHEMA, told
from conftest import HTTP, SIM, TEXT

MODEL = "command-sim"
# The simulator's; on a raw route the cluster's takes the client's place.
UPSTREAM_KEY = os.environ.get("FOREBAY_UPSTREAM_KEY", "")


@pytest.fixture(scope="module", params=["simulator", "edge"])
def client(request):
    """Its client, of the simulator or of the edge's raw route."""
    key, url = (UPSTREAM_KEY, SIM) if request.param == "simulator" else (os.environ["FOREBAY_KEY"], f"{HTTP}/cohere")
    with httpx.Client(verify=ssl.create_default_context()) as http:
        yield cohere.ClientV2(api_key=key, base_url=url, httpx_client=http)


def user(text):
    return [{"role": "user", "content": text}]


def test_chat(client):
    reply = client.chat(model=MODEL, messages=user(told(text=TEXT, reasoning="So be it.")))
    assert [part.type for part in reply.message.content] == ["thinking", "text"]
    assert (reply.message.content[1].text, reply.finish_reason) == (TEXT, "COMPLETE")
    assert reply.usage.tokens.output_tokens == len(TEXT.split()) + 3


def test_stream(client):
    events = list(client.chat_stream(model=MODEL, messages=user(told(text=TEXT))))
    assert [events[0].type, events[1].type, events[-1].type] == ["message-start", "content-start", "message-end"]
    text = "".join(event.delta.message.content.text for event in events if event.type == "content-delta")
    assert text == TEXT
    assert events[-1].delta.finish_reason == "COMPLETE"
    assert events[-1].delta.usage.tokens.output_tokens == len(TEXT.split())


def test_tools(client):
    tools = [{"type": "function", "function": {"name": "weather", "description": "-", "parameters": SCHEMA}}]
    said = client.chat(model=MODEL, messages=user("Weather?"), tools=tools)
    (call,) = said.message.tool_calls
    assert (call.function.name, said.finish_reason) == ("weather", "TOOL_CALL")
    history = [*user("Weather?"), said.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert client.chat(model=MODEL, messages=history, tools=tools).message.content[0].text
    events = list(client.chat_stream(model=MODEL, messages=user("Weather?"), tools=tools))
    kinds = [event.type for event in events]
    assert kinds[1] == "tool-call-start"
    assert "tool-call-delta" in kinds
    assert kinds[-2] == "tool-call-end"


def test_embed_and_rerank(client):
    reply = client.embed(
        model=MODEL, texts=["one", "two"], input_type="search_document", embedding_types=["float"]
    )
    assert len(reply.embeddings.float_) == 2
    assert abs(sum(x * x for x in reply.embeddings.float_[0]) - 1) < 1e-3
    ranked = client.rerank(model=MODEL, query="?", documents=["a", "b", "c"], top_n=2).results
    assert len(ranked) == 2
    assert ranked[0].relevance_score >= ranked[1].relevance_score


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status=400", cohere.BadRequestError),
        ("status=404", cohere.NotFoundError),
        ("status=429", cohere.TooManyRequestsError),
        ("status=500", cohere.InternalServerError),
        ("status=503", cohere.ServiceUnavailableError),
    ],
)
def test_errors(client, fault, kind):
    with pytest.raises(kind) as caught:
        client.chat(
            model=MODEL, messages=user(told(fault=fault)), request_options={"max_retries": 0}
        )
    assert caught.value.body["message"]
