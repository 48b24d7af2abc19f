"""Every client SDK before every dialect that an upstream can speak: what it says reads as if it were native."""

import pytest
from clients import CLIENTS, Chat, told
from conftest import TEXT, UNICODE

# Aliases of the edge, one for each dialect of an upstream; see `UPSTREAMS` in `tests/sdk/run`.
UPSTREAMS = (
    "chat", "responses", "messages", "gemini", "converse", "cohere", "ollama", "invoke", "raw_predict",
    "vertex", "azure",
)  # fmt: skip


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda kind: kind.name)
def client(request):
    """A client, made once: connections are kept."""
    return request.param()


@pytest.fixture(params=UPSTREAMS)
def model(request):
    """An alias whose only upstream speaks that dialect."""
    return f"via-{request.param}"


def test_text(client, model):
    whole = client.ask(model, told(text=TEXT))
    assert (whole.text, whole.calls, whole.finish) == (TEXT, [], "stop")
    streamed = client.stream(model, told(text=TEXT))
    assert (streamed.text, streamed.calls, streamed.finish) == (TEXT, [], "stop")
    assert whole.usage == streamed.usage
    assert whole.usage[0] > 10
    assert whole.usage[1] == len(TEXT.split())


def test_unicode(client, model):
    prompt = told(text=UNICODE)
    assert client.ask(model, prompt).text == UNICODE
    assert client.stream(model, prompt).text == UNICODE


def test_tools(client, model):
    for ask in (client.ask, client.stream):
        said = ask(model, told("Weather?"), tools=True)
        ((_, name, arguments),) = said.calls
        assert (name, said.finish) == ("weather", "tools")
        assert isinstance(arguments["city"], str)
        assert isinstance(arguments["days"], int)
        second = client.ask(model, told("Weather?"), tools=True, history=client.answers(said, "It rains."))
        assert second.text
        assert (second.calls, second.finish) == ([], "stop")


def test_thoughts(client, model):
    prompt = told("Weather?", reasoning="So be it.")
    for ask in (client.ask, client.stream):
        said = ask(model, prompt, tools=True)
        assert (said.thought, said.finish) == ("So be it.", "tools")
        # They go back with what they were signed with, which an upstream that signs them checks.
        second = client.ask(model, prompt, tools=True, history=client.answers(said, "It rains."))
        assert second.text
        assert (second.thought, second.finish) == ("So be it.", "stop")


def test_tools_in_parallel(client, model):
    for ask in (client.ask, client.stream):
        said = ask(model, told("Weather?", tool_calls=3), tools=True)
        assert [name for _, name, _ in said.calls] == ["weather"] * 3
        assert all(set(arguments) == {"city", "days"} for _, _, arguments in said.calls)
        second = client.ask(model, told("Weather?"), tools=True, history=client.answers(said, "It rains."))
        assert (second.calls, second.finish) == ([], "stop")


def test_limit(client, model):
    for ask in (client.ask, client.stream):
        said = ask(model, told(text=TEXT, tokens=40), limit=20)
        assert (said.finish, said.usage[1]) == ("length", 20)
        assert said.text.startswith(TEXT)


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_errors(client, model, status):
    for ask in (client.ask, client.stream):
        with pytest.raises(client.failures) as caught:
            ask(model, told(fault=f"status={status}"))
        error = caught.value
        assert isinstance(error, client.kinds[status]), repr(error)
        assert client.status(error) // 100 == status // 100
        assert str(error)


def test_an_error_in_a_stream(client, model):
    for fault in ("error_event=4", "cut=4"):
        with pytest.raises(client.failures) as caught:
            client.stream(model, told(text=TEXT, fault=fault))
        assert str(caught.value)


def test_an_unknown_model(client):
    with pytest.raises(client.failures) as caught:
        client.ask("nobody", told())
    assert isinstance(caught.value, client.kinds[client.unknown])
    assert client.status(caught.value) == client.unknown


@pytest.mark.parametrize("upstream", ["gemini", "vertex", "cohere", "ollama", "azure"])
def test_embeddings(upstream):
    client = Chat().client
    asked = {"model": f"via-{upstream}", "input": ["one", "two"], "dimensions": 8}
    encoded = client.embeddings.create(**asked).data
    plain = client.embeddings.create(**asked, encoding_format="float").data
    for one, other in zip(encoded, plain, strict=True):
        assert len(one.embedding) == 8
        assert all(abs(x - y) < 1e-6 for x, y in zip(one.embedding, other.embedding, strict=True))
    assert encoded[0].embedding != encoded[1].embedding
