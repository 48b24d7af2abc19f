"""A real inference server behind the edge: llama.cpp over a tiny model, where that tool is there.

It is sought in $FOREBAY_TINY_LLM, by default `../shared/tools/tiny-llm` beside the repository; without it every test
here is skipped. Its text is word salad; everything else about it is real.
"""

import os
import pathlib
import ssl
import sys
import time

import anthropic
import httpx2
import openai
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import fleet  # noqa: E402

TOOL = pathlib.Path(
    os.environ.get("FOREBAY_TINY_LLM") or fleet.REPOSITORY.parent / "shared/tools/tiny-llm"
).resolve()
CACHE = fleet.REPOSITORY / ".cache/tiny-llm"

pytestmark = pytest.mark.skipif(
    not (TOOL / "serve.py").is_file(), reason=f"no tiny-llm at {TOOL}; set FOREBAY_TINY_LLM"
)

ASK = [{"role": "user", "content": "Tell me of rivers."}]
GREETING = "Hello \U0001f642"
# Has the server say just this: the smiling face is four tokens of a byte each.
SAY_GREETING = {"extra_body": {"grammar": f'root ::= "{GREETING}"'}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """llama.cpp's server; its base URL."""
    folder = tmp_path_factory.mktemp("server")
    python = CACHE / "bin/python"
    assert python.exists(), "its packages are missing: run `scripts/setup test`"
    command = [python, TOOL / "serve.py", fleet.free_port(), "--model", CACHE / "tiny.gguf"]
    command += ["--embeddings", "--context", 20_000, "--slots", 2]
    with fleet.Process("tiny-llm", command, folder) as process:
        yield process.line(r"^ready (http\S+)", patience=60)[1]


@pytest.fixture(scope="module")
def edge(server, tmp_path_factory):
    """An edge before it; its base URL and the authority of its certificate."""
    folder = tmp_path_factory.mktemp("edge")
    ca, certificate, key = fleet.make_certificates(folder)
    https, admin = (f"127.0.0.1:{fleet.free_port()}" for _ in range(2))
    config = {
        "listeners": [
            {"address": https, "tls": {"certificates": [{"cert": str(certificate), "key": str(key)}]}}
        ],
        "admin": {"address": admin},
        "server": {"lame_duck": "0s", "drain": "5s"},
        "log": {"format": "text"},
        "keys": {"tester": {"key": "env:FOREBAY_TEST_KEY"}},
        "clusters": {"nodes": {"provider": "llamacpp", "endpoints": [server]}},
        "models": {"river": {"deployments": [{"cluster": "nodes", "model": "tiny"}]}},
    }
    with fleet.start_edge("edge", folder, config, admin):
        yield f"https://{https}", ca


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def transport(request, edge):
    """What an SDK's HTTP client is made with."""
    return {"http2": request.param == "HTTP/2", "verify": ssl.create_default_context(cafile=edge[1])}


@pytest.fixture
def gpt(edge, transport):
    """OpenAI's client."""
    client = openai.DefaultHttpxClient(**transport)
    url = f"{edge[0]}/v1"
    with openai.OpenAI(api_key=fleet.KEY, base_url=url, max_retries=0, http_client=client) as made:
        yield made


@pytest.fixture
def claude(edge, transport):
    """Anthropic's client."""
    client = anthropic.DefaultHttpxClient(**transport)
    with anthropic.Anthropic(
        api_key=fleet.KEY, base_url=edge[0], max_retries=0, http_client=client
    ) as made:
        yield made


def text_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_chat(gpt):
    reply = gpt.chat.completions.create(model="river", messages=ASK, max_tokens=12)
    assert reply.choices[0].message.content
    assert 0 < reply.usage.completion_tokens <= 12
    exact = gpt.chat.completions.create(model="river", messages=ASK, **SAY_GREETING)
    assert exact.choices[0].message.content == GREETING


def test_stream(gpt):
    chunks = list(gpt.chat.completions.create(model="river", messages=ASK, stream=True, **SAY_GREETING))
    assert text_of(chunks) == GREETING
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)
    options = {"include_usage": True}
    chunks = list(
        gpt.chat.completions.create(
            model="river", messages=ASK, stream=True, stream_options=options, max_tokens=40,
            extra_body={"ignore_eos": True},
        )
    )  # fmt: skip
    assert len(text_of(chunks)) > 40
    assert chunks[-1].usage.completion_tokens == 40


def test_tools(gpt):
    tool = {"type": "function", "function": {"name": "flow", "parameters": {"type": "object", "properties": {}}}}
    reply = gpt.chat.completions.create(model="river", messages=ASK, tools=[tool], max_tokens=400)
    assert reply.choices[0].message.tool_calls[0].function.name == "flow"


def test_completions(gpt):
    reply = gpt.completions.create(model="river", prompt="river", max_tokens=8)
    assert reply.choices[0].text
    chunks = list(gpt.completions.create(model="river", prompt="river", max_tokens=8, stream=True))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices)


def test_embeddings(gpt):
    packed = gpt.embeddings.create(model="river", input=["river", "stone"])
    plain = gpt.embeddings.create(model="river", input=["river", "stone"], encoding_format="float")
    assert len(packed.data) == len(plain.data) == 2
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-4)
    assert packed.data[0].embedding != packed.data[1].embedding


def test_responses(gpt):
    reply = gpt.responses.create(model="river", input="Tell me of rivers.", max_output_tokens=20)
    assert reply.output_text
    # Its events have no `content_index`, without which the SDK's stream helper cannot do.
    events = list(
        gpt.responses.create(model="river", input="Tell me of rivers.", max_output_tokens=20, stream=True)
    )
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == text
    assert events[-1].response.usage.output_tokens > 0


def test_messages(claude):
    reply = claude.messages.create(model="river", messages=ASK, max_tokens=12)
    assert reply.content[0].text
    assert 0 < reply.usage.output_tokens <= 12
    with claude.messages.stream(model="river", messages=ASK, max_tokens=12) as stream:
        text = "".join(stream.text_stream)
        assert stream.get_final_message().content[0].text == text
    assert claude.messages.count_tokens(model="river", messages=ASK).input_tokens > 0


def test_its_own_refusal_arrives(gpt):
    long = [{"role": "user", "content": "river " * 30_000}]
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.chat.completions.create(model="river", messages=long, stream=True)
    assert caught.value.type == "exceed_context_size_error"


def test_it_stops_generating_when_the_client_leaves(gpt, server):
    with httpx2.Client(base_url=server, timeout=10) as direct:
        before = made_in_all(direct)
        # Left alone this would run for about a minute.
        stream = gpt.chat.completions.create(
            model="river", messages=ASK, stream=True, max_tokens=15_000, extra_body={"ignore_eos": True}
        )
        seen = [next(stream) for _ in range(50)]
        assert is_busy(direct)
        stream.close()
        # Python's HTTP/2 stack tells nobody that it left a stream until it closes the connection.
        gpt.close()
        began = time.monotonic()
        fleet.wait_until(lambda: not is_busy(direct), 2)
        took = time.monotonic() - began
        made = fleet.wait_until(lambda: made_in_all(direct) - before, 2)
    print(f"idle after {took * 1000:.0f} ms, {made} tokens made, {len(seen)} chunks read")
    assert took < 1
    assert made < 2_000


def is_busy(direct):
    """Whether a slot of the server is at work."""
    return any(slot["is_processing"] for slot in direct.get("/slots").json())


def made_in_all(direct):
    """Tokens that the server has made, counted when a request ends."""
    lines = direct.get("/metrics").text.splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("llamacpp:tokens_predicted_total"))
