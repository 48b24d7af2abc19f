"""What clients are answered across dialects, read by the official SDKs in their strict types.

The matrix test of the dialects writes it: `FOREBAY_MATRIX_OUT=dir cargo test --lib matrix`, and the same variable tells
these tests where it is. Each file is one answer of one upstream in the words of one client: a whole reply
(`text.json`), an error with its status (`...429.json`), or a stream as it is on the wire (`text.stream`).
"""

import base64
import functools
import json
import os
import pathlib

import anthropic
import anthropic.types
import httpx2
import openai
import openai.types.chat
import openai.types.responses
import pydantic
import pytest

OUT = pathlib.Path(os.environ.get("FOREBAY_MATRIX_OUT", "/nonexistent"))
FILES = sorted(path.relative_to(OUT) for path in OUT.glob("*/*/*")) if OUT.is_dir() else []
FAILED = "error-inside-the-stream.stream"

pytestmark = pytest.mark.skipif(not FILES, reason="FOREBAY_MATRIX_OUT names no answers; see this file's head")


def files(client, kind):
    """The files of a client: `whole`, `error` or `stream`."""

    def is_of(path):
        whole = path.suffix == ".json"
        error = whole and path.stem.rpartition(".")[2].isdigit()
        return path.parts[0] == client and kind == ("error" if error else "whole" if whole else "stream")

    # The helpers take seconds for a thousand deltas, and those of one upstream are those of all.
    found = [path for path in FILES if is_of(path) and (path.stem != "1000-deltas" or path.parts[1] == "cohere")]
    return pytest.mark.parametrize("path", found, ids=lambda path: "/".join(path.parts[1:]))


def read(path):
    return (OUT / path).read_bytes()


def transport(body, media="text/event-stream", status=200):
    """An HTTP client that answers so, whatever it is asked."""

    def answer(_):
        return httpx2.Response(status, content=body, headers={"content-type": media, "request-id": "r"})

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def gpt(body, **options):
    return openai.OpenAI(api_key="k", base_url="http://edge/v1", max_retries=0, http_client=transport(body, **options))


def claude(body, **options):
    return anthropic.Anthropic(api_key="k", base_url="http://edge", max_retries=0, http_client=transport(body, **options))


def events(body):
    """The events of a stream of server-sent events: names, and data as JSON."""
    found = []
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        fields = [line.partition(": ") for line in block.split("\n") if line and not line.startswith(":")]
        data = [value for name, _, value in fields if name == "data"]
        if data:
            found.append((next((value for name, _, value in fields if name == "event"), ""), data[0]))
            assert len(data) == 1
    return found


def strict(kind, data):
    """Reads JSON as an SDK's type, without any conversion."""
    return adapter(kind).validate_json(data, strict=True)


@functools.cache
def adapter(kind):
    return pydantic.TypeAdapter(kind)


def sibling(path):
    """The whole reply of the same case, if there is one."""
    whole = (OUT / path).with_suffix(".json")
    return whole.read_bytes() if whole.exists() else None


# === Chat ===


def chat_said(message):
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]
    return message.content or "", message.refusal, calls


@files("chat", "whole")
def test_a_chat_completion(path):
    strict(openai.types.chat.ChatCompletion, read(path))
    reply = gpt(read(path), media="application/json").chat.completions.create(model="m", messages=[])
    assert reply.choices[0].finish_reason and reply.usage.total_tokens


@files("chat", "stream")
def test_a_chat_stream(path):
    body, failed = read(path), path.name == FAILED
    told = [data for _, data in events(body)]
    assert told.pop() == "[DONE]"
    if failed:
        assert "error" in json.loads(told.pop())
    for data in told:
        strict(openai.types.chat.ChatCompletionChunk, data)
    with gpt(body).chat.completions.stream(
        model="m", messages=[], stream_options={"include_usage": True}
    ) as stream:
        if failed:
            with pytest.raises(openai.APIError):
                stream.get_final_completion()
            return
        try:
            final = stream.get_final_completion()
        except (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
            # The helper raises on these; that it could tell is what counts.
            assert path.name in ("length-stop.stream", "refusal.stream")
            return
    if whole := sibling(path):
        whole = strict(openai.types.chat.ChatCompletion, whole)
        assert chat_said(final.choices[0].message) == chat_said(whole.choices[0].message)
        assert final.usage == whole.usage


# === Completions ===


@files("completions", "whole")
def test_a_completion(path):
    strict(openai.types.Completion, read(path))
    reply = gpt(read(path), media="application/json").completions.create(model="m", prompt="x")
    assert reply.choices[0].finish_reason and reply.usage.total_tokens


@files("completions", "stream")
def test_a_stream_of_completions(path):
    body, failed = read(path), path.name == FAILED
    told = [data for _, data in events(body)]
    assert told.pop() == "[DONE]"
    if failed:
        assert "error" in json.loads(told.pop())
    chunks = [json.loads(data) for data in told]
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons[:-1] == [None] * len(reasons[:-1]) and bool(reasons[-1]) != failed
    for chunk in chunks:
        # The API sends null before the end, which the SDK's type does not know.
        for choice in chunk["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        strict(openai.types.Completion, json.dumps(chunk))
    stream = gpt(body).completions.create(model="m", prompt="x", stream=True)
    if failed:
        with pytest.raises(openai.APIError):
            list(stream)
        return
    seen = list(stream)
    text = "".join(choice.text for chunk in seen for choice in chunk.choices)
    if whole := sibling(path):
        whole = strict(openai.types.Completion, whole)
        assert (text, seen[-1].usage) == (whole.choices[0].text, whole.usage)


# === Responses ===


def output_said(response):
    calls = [(item.name, json.loads(item.arguments)) for item in response.output if item.type == "function_call"]
    return response.status, response.output_text, calls


@files("responses", "whole")
def test_a_response(path):
    strict(openai.types.responses.Response, read(path))
    reply = gpt(read(path), media="application/json").responses.create(model="m", input="x")
    assert reply.status in ("completed", "incomplete") and reply.usage.total_tokens


@files("responses", "stream")
def test_a_response_stream(path):
    body, failed = read(path), path.name == FAILED
    for number, (name, data) in enumerate(events(body)):
        read_back = json.loads(data)
        assert (read_back["type"], read_back["sequence_number"]) == (name, number)
        # On the wire an error nests, although the SDK's type is flat: its client raises on either.
        if name != "error":
            strict(openai.types.responses.ResponseStreamEvent, data)
    with gpt(body).responses.stream(model="m", input="x") as stream:
        if failed:
            with pytest.raises(openai.APIError):
                stream.get_final_response()
            return
        seen = list(stream)
    final = seen[-1].response
    if whole := sibling(path):
        whole = strict(openai.types.responses.Response, whole)
        assert output_said(final) == output_said(whole)
        assert final.usage == whole.usage


# === Messages ===


def blocks_said(message):
    texts = [(block.type, getattr(block, block.type)) for block in message.content if block.type in ("text", "thinking")]
    calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    return message.stop_reason, message.stop_sequence, texts, calls


@files("messages", "whole")
def test_a_message(path):
    strict(anthropic.types.Message, read(path))
    reply = claude(read(path), media="application/json").messages.create(model="m", max_tokens=9, messages=[])
    assert reply.stop_reason and reply.usage.input_tokens


@files("messages", "stream")
def test_a_message_stream(path):
    body, failed = read(path), path.name == FAILED
    for name, data in events(body):
        assert json.loads(data)["type"] == name
        if name not in ("ping", "error"):
            strict(anthropic.types.RawMessageStreamEvent, data)
    with claude(body).messages.stream(model="m", max_tokens=9, messages=[]) as stream:
        if failed:
            with pytest.raises(anthropic.APIStatusError):
                stream.get_final_message()
            return
        final = stream.get_final_message()
    strict(anthropic.types.Message, final.model_dump_json(exclude_none=False, exclude={"parsed_output"}))
    if whole := sibling(path):
        whole = strict(anthropic.types.Message, whole)
        assert blocks_said(final) == blocks_said(whole)
        assert final.usage.output_tokens == whole.usage.output_tokens


# === Gemini ===


def parts_said(responses):
    """Text, thoughts and calls of the first candidate, over all responses."""
    texts, thoughts, calls = [], [], []
    contents = [response.candidates[0].content for response in responses if response.candidates]
    for content in contents:
        for part in (content and content.parts) or []:
            if part.function_call:
                calls.append((part.function_call.name, part.function_call.args))
            elif part.text:
                (thoughts if part.thought else texts).append(part.text)
    return "".join(texts), "".join(thoughts), calls


@files("gemini", "whole")
def test_a_generated_content(path):
    types = pytest.importorskip("google.genai.types")
    # The type forbids unknown members; bytes are base64 in JSON, which strictness has no word for.
    reply = types.GenerateContentResponse.model_validate_json(read(path))
    assert reply.usage_metadata.total_token_count


@files("gemini", "stream")
def test_a_generated_stream(path):
    types = pytest.importorskip("google.genai.types")
    told, failed = events(read(path)), path.name == FAILED
    assert all(name == "" for name, _ in told)
    if failed:
        assert json.loads(told.pop()[1])["error"]["status"]
    told = [types.GenerateContentResponse.model_validate_json(data) for _, data in told]
    if failed:
        return
    # A prompt that is blocked has no candidate.
    assert told[-1].prompt_feedback or told[-1].candidates[0].finish_reason
    if whole := sibling(path):
        whole = types.GenerateContentResponse.model_validate_json(whole)
        assert parts_said(told) == parts_said([whole])
        assert told[-1].usage_metadata == whole.usage_metadata


# === Converse ===


@functools.cache
def service():
    """What Bedrock's operations take and give, as botocore has it."""
    session = pytest.importorskip("botocore.session")
    return session.get_session().get_service_model("bedrock-runtime")


PYTHON = {"string": str, "integer": int, "long": int, "boolean": bool, "timestamp": (int, float)}


def check(shape, value, at):
    """Checks a value against a shape of botocore's model, which its own parser does not: it skips what it does not know."""
    kind = shape.type_name
    if kind == "structure":
        assert isinstance(value, dict), at
        assert not set(value) - set(shape.members), f"{at}: {set(value) - set(shape.members)} are not known"
        assert not set(shape.required_members) - set(value), f"{at}: lacks {set(shape.required_members) - set(value)}"
        if shape.is_tagged_union:
            assert len(value) == 1, at
        # A document is a structure without members: any JSON.
        for name, inner in value.items():
            check(shape.members[name], inner, f"{at}.{name}")
    elif kind == "list":
        assert isinstance(value, list), at
        for index, inner in enumerate(value):
            check(shape.member, inner, f"{at}[{index}]")
    elif kind == "map":
        for name, inner in value.items():
            check(shape.value, inner, f"{at}.{name}")
    elif kind == "blob":
        base64.b64decode(value, validate=True)
    elif kind in ("float", "double"):
        assert isinstance(value, (int, float)), at
    else:
        assert isinstance(value, PYTHON[kind]), at
        words = getattr(shape, "enum", None)
        assert not words or value in words, f"{at}: {value}"


@files("converse", "whole")
def test_a_converse_reply(path):
    shape = service().operation_model("Converse").output_shape
    value = json.loads(read(path))
    for block in value["output"]["message"]["content"]:
        # Documents are any JSON, which the model has no members for.
        if "toolUse" in block:
            assert isinstance(block["toolUse"].pop("input"), dict)
            block["toolUse"]["input"] = {}
    value.pop("additionalModelResponseFields", None)
    check(shape, value, "reply")


@files("converse", "stream")
def test_a_converse_stream(path):
    eventstream = pytest.importorskip("botocore.eventstream")
    shape = service().operation_model("ConverseStream").output_shape.members["stream"]
    buffer = eventstream.EventStreamBuffer()
    # In pieces, as a network gives it. It checks both sums of every frame.
    body = read(path)
    texts, calls, whole = {}, {}, sibling(path)
    for start in range(0, len(body), 97):
        buffer.add_data(body[start : start + 97])
    for event in buffer:
        headers = event.headers
        kind = headers.get(":event-type") or headers[":exception-type"]
        assert headers[":message-type"] == ("event" if ":event-type" in headers else "exception")
        value = json.loads(event.payload)
        if kind == "messageStop":
            value.pop("additionalModelResponseFields", None)
        check(shape.members[kind], value, kind)
        index = value.get("contentBlockIndex")
        if "start" in value and "toolUse" in value["start"]:
            calls[index] = [value["start"]["toolUse"]["name"], ""]
        if "text" in value.get("delta", {}):
            texts[index] = texts.get(index, "") + value["delta"]["text"]
        if "toolUse" in value.get("delta", {}):
            calls[index][1] += value["delta"]["toolUse"]["input"]
    assert not buffer._data and kind == ("metadata" if path.name != FAILED else kind)
    if whole:
        content = json.loads(whole)["output"]["message"]["content"]
        assert list(texts.values()) == [block["text"] for block in content if "text" in block]
        said = [(name, json.loads(arguments)) for name, arguments in calls.values()]
        assert said == [(block["toolUse"]["name"], block["toolUse"]["input"]) for block in content if "toolUse" in block]


# === Errors ===


@files("chat", "error")
def test_an_error_in_chat(path):
    status = int(path.stem.rpartition(".")[2])
    with pytest.raises(openai.APIStatusError) as raised:
        gpt(read(path), media="application/json", status=status).chat.completions.create(model="m", messages=[])
    assert raised.value.status_code == status and raised.value.body["message"]


@files("completions", "error")
def test_an_error_in_completions(path):
    status = int(path.stem.rpartition(".")[2])
    with pytest.raises(openai.APIStatusError) as raised:
        gpt(read(path), media="application/json", status=status).completions.create(model="m", prompt="x")
    assert raised.value.status_code == status and raised.value.body["message"]


@files("responses", "error")
def test_an_error_in_responses(path):
    status = int(path.stem.rpartition(".")[2])
    with pytest.raises(openai.APIStatusError) as raised:
        gpt(read(path), media="application/json", status=status).responses.create(model="m", input="x")
    assert raised.value.status_code == status and raised.value.body["message"]


@files("messages", "error")
def test_an_error_in_messages(path):
    status = int(path.stem.rpartition(".")[2])
    with pytest.raises(anthropic.APIStatusError) as raised:
        claude(read(path), media="application/json", status=status).messages.create(model="m", max_tokens=9, messages=[])
    error = raised.value
    strict(anthropic.types.ErrorResponse, json.dumps(error.body))
    assert error.status_code == status


@files("gemini", "error")
def test_an_error_in_gemini(path):
    error = json.loads(read(path))["error"]
    assert set(error) >= {"code", "message", "status"} and error["code"] == int(path.stem.rpartition(".")[2])


@files("converse", "error")
def test_an_error_in_converse(path):
    assert isinstance(json.loads(read(path))["message"], str)
