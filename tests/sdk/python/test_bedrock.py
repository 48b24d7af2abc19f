"""AWS's SDK through the edge, before Converse and before another dialect: what only it has."""

import json

import botocore.exceptions
import pytest
from clients import NAME, SCHEMA, bedrock_client, told
from conftest import TEXT


@pytest.fixture(scope="module")
def client():
    """Its client."""
    return bedrock_client()


@pytest.fixture(params=["via-converse", "via-messages", "via-chat"])
def model(request):
    """An alias before Converse, before Anthropic, and before OpenAI."""
    return request.param


def user(text):
    return [{"role": "user", "content": [{"text": text}]}]


def test_every_event_of_a_stream(client, model):
    reply = client.converse_stream(modelId=model, messages=user(told(text=TEXT)), system=[{"text": "Be brief."}])
    names = [name for event in reply["stream"] for name in event]
    assert names[0] == "messageStart"
    assert names[-2:] == ["messageStop", "metadata"]
    assert names.count("contentBlockDelta") == len(TEXT.split())
    assert names.count("contentBlockStop") == 1


def test_a_forced_tool(client, model):
    spec = {"name": NAME, "inputSchema": {"json": SCHEMA}}
    tools = {"tools": [{"toolSpec": spec}], "toolChoice": {"tool": {"name": NAME}}}
    reply = client.converse(modelId=model, messages=user("Weather?"), toolConfig=tools)
    (use,) = [block["toolUse"] for block in reply["output"]["message"]["content"] if "toolUse" in block]
    assert set(use["input"]) == {"city", "days"}


def test_thoughts(client):
    fields = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    for model in ("via-converse", "via-messages"):
        asked = {"modelId": model, "messages": user(told(text=TEXT, reasoning="So be it."))}
        asked |= {"additionalModelRequestFields": fields, "inferenceConfig": {"maxTokens": 4096}}
        said = client.converse(**asked)["output"]["message"]
        thought = said["content"][0]["reasoningContent"]["reasoningText"]
        assert thought["text"] == "So be it."
        # It goes back as it came, signature and all, or the upstream refuses it.
        history = [*asked["messages"], said, *user(told("And?", text="Right."))]
        second = client.converse(**(asked | {"messages": history}))
        assert second["output"]["message"]["content"][-1]["text"] == "Right."


def test_structured_output(client, model):
    schema = {"name": "weather", "schema": json.dumps(SCHEMA | {"additionalProperties": False})}
    textual = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    reply = client.converse(modelId=model, messages=user("Weather?"), outputConfig={"textFormat": textual})
    assert set(json.loads(reply["output"]["message"]["content"][0]["text"])) == {"city", "days"}


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("status=400", "ValidationException"),
        ("status=429", "ThrottlingException"),
        ("status=500", "InternalServerException"),
        ("status=503", "ServiceUnavailableException"),
    ],
)
def test_exceptions_are_the_models_own(client, model, fault, name):
    with pytest.raises(getattr(client.exceptions, name)) as caught:
        client.converse(modelId=model, messages=user(told(fault=fault)))
    assert caught.value.response["Error"]["Message"]


def test_an_exception_inside_a_stream(client, model):
    reply = client.converse_stream(modelId=model, messages=user(told(text=TEXT, fault="error_event=4")))
    with pytest.raises(botocore.exceptions.EventStreamError) as caught:
        list(reply["stream"])
    assert "Exception" in caught.value.response["Error"]["Code"]


def test_what_the_service_model_refuses_never_leaves(client):
    with pytest.raises(botocore.exceptions.ParamValidationError):
        client.converse(modelId="via-converse", messages=[{"role": "user", "content": "text"}])


def test_names_that_need_escapes(client):
    # `any/*` takes what follows, and the simulator has a model of that name: a slash and a colon in one segment.
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.converse(modelId="any/nobody:1", messages=user("?"))
    reply = client.converse(modelId="any/sim-gpt", messages=user(told(text=TEXT)))
    assert reply["output"]["message"]["content"][0]["text"] == TEXT
