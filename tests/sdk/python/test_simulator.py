"""Official SDKs straight before the simulator: what it speaks is what they read, with no edge in between."""

import os

import anthropic
import boto3
import botocore.config
import google.genai
import openai
import pytest
from clients import told
from conftest import SIM, TEXT
from google.genai import types

# The simulator's key.
KEY = os.environ.get("FOREBAY_UPSTREAM_KEY", "")
ASK = [{"role": "user", "content": told(text=TEXT)}]


def test_google():
    options = types.HttpOptions(base_url=SIM, api_version="v1beta")
    client = google.genai.Client(api_key=KEY, vertexai=False, http_options=options)
    reply = client.models.generate_content(model="gemini-3-sim", contents=told(text=TEXT))
    assert (reply.text, reply.candidates[0].finish_reason.name) == (TEXT, "STOP")
    pieces = client.models.generate_content_stream(model="gemini-3-sim", contents=told(text=TEXT))
    assert "".join(piece.text or "" for piece in pieces) == TEXT
    assert client.models.count_tokens(model="gemini-3-sim", contents="one two").total_tokens > 2
    vector = client.models.embed_content(model="gemini-3-sim", contents="one").embeddings[0].values
    assert abs(sum(x * x for x in vector) - 1) < 1e-3
    assert "models/gemini-3-sim" in [model.name for model in client.models.list()]


def test_bedrock_signed(monkeypatch):
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    config = botocore.config.Config(retries={"total_max_attempts": 1})
    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=SIM,
        aws_access_key_id=KEY,
        aws_secret_access_key="secret",
        config=config,
    )
    messages = [{"role": "user", "content": [{"text": told(text=TEXT)}]}]
    reply = client.converse(modelId="anthropic.sim-v1:0", messages=messages)
    assert reply["output"]["message"]["content"] == [{"text": TEXT}]
    events = list(client.converse_stream(modelId="anthropic.sim-v1:0", messages=messages)["stream"])
    assert [list(event)[0] for event in events[-2:]] == ["messageStop", "metadata"]
    count = client.count_tokens(modelId="anthropic.sim-v1:0", input={"converse": {"messages": messages}})
    assert count["inputTokens"] == reply["usage"]["inputTokens"]
    with pytest.raises(client.exceptions.ValidationException):
        client.converse(modelId="anthropic.sim-v1:0", messages=[*messages, *messages])
    limited = [{"role": "user", "content": [{"text": told(fault="status=429")}]}]
    with pytest.raises(client.exceptions.ThrottlingException):
        client.converse(modelId="anthropic.sim-v1:0", messages=limited)


@pytest.fixture(params=["bedrock", "vertex"])
def claude(request, monkeypatch):
    """Anthropic's clients for other people's clouds, with a model of that cloud."""
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    if request.param == "bedrock":
        client = anthropic.AnthropicBedrock(
            aws_region="us-east-1", aws_access_key=KEY, aws_secret_key="secret", base_url=SIM, max_retries=0
        )
        return client, "anthropic.sim-v1:0"
    client = anthropic.AnthropicVertex(
        region="global", project_id="p", access_token=KEY, base_url=f"{SIM}/v1", max_retries=0
    )
    return client, "claude-sim@1"


def test_claude_elsewhere(claude):
    client, model = claude
    asked = {"model": model, "max_tokens": 100, "messages": ASK}
    reply = client.messages.create(**asked)
    assert (reply.content[0].text, reply.stop_reason) == (TEXT, "end_turn")
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage == reply.usage
    for status, kind in ((400, anthropic.BadRequestError), (429, anthropic.RateLimitError)):
        failing = [{"role": "user", "content": told(fault=f"status={status}")}]
        with pytest.raises(kind):
            client.messages.create(**(asked | {"messages": failing}))


def test_azure():
    client = openai.AzureOpenAI(api_key=KEY, azure_endpoint=SIM, api_version="2024-10-21", max_retries=0)
    reply = client.chat.completions.create(model="sim-gpt", messages=ASK)
    assert reply.choices[0].message.content == TEXT
    chunks = list(client.chat.completions.create(model="sim-gpt", messages=ASK, stream=True))
    assert chunks[0].choices == []
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == TEXT
    assert len(client.embeddings.create(model="sim-embedding", input="one").data) == 1
    assert client.responses.create(model="sim-gpt", input=told(text=TEXT)).output_text == TEXT
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody", messages=ASK)
    assert caught.value.code == "DeploymentNotFound"
