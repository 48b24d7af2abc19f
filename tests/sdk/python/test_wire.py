"""What the SDKs do not show: ids, headers, TLS, and that a plain listener serves the same."""

import json
import socket
import ssl
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events
import httpx2
import pytest
from conftest import CA, HTTP, HTTPS, KEY

AUTH = {"authorization": f"Bearer {KEY}"}
ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "sim": {"text": "ho"}}


def test_every_reply_has_an_id(http):
    seen = set()
    for reply in (
        http.post("/v1/chat/completions", json=ASK, headers=AUTH),
        http.post("/v1/chat/completions", json=ASK | {"stream": True}, headers=AUTH),
        http.get("/v1/models", headers=AUTH),
        http.post("/v1/chat/completions", json=ASK),
        http.get("/nowhere", headers=AUTH),
    ):
        seen.add(reply.headers["x-request-id"])
    assert len(seen) == 5


def test_the_id_of_a_client_is_kept_and_passed_on(http, sim):
    reply = http.post("/v1/chat/completions", json=ASK, headers=AUTH | {"x-request-id": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"
    assert sim.last_request()["headers"]["x-request-id"] == "mine-1"


def test_statuses_of_paths_and_methods(http):
    assert http.get("/v1/chat/completions", headers=AUTH).status_code == 405
    assert http.get("/nowhere", headers=AUTH).status_code == 404
    assert http.post("/v1/chat/completions", json=ASK).status_code == 401
    assert http.post("/chat/completions", json=ASK, headers=AUTH).status_code == 200


def test_stream_headers(http):
    reply = http.post("/v1/chat/completions", json=ASK | {"stream": True}, headers=AUTH)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache"
    assert "content-length" not in reply.headers
    assert "content-encoding" not in reply.headers
    assert reply.text.endswith("data: [DONE]\n\n")


def test_large_replies_are_compressed_for_who_accepts_it(http):
    long = ASK | {"sim": {"text": "word ", "tokens": 2000}}
    packed = http.post("/v1/chat/completions", json=long, headers=AUTH | {"accept-encoding": "gzip"})
    plain = http.post("/v1/chat/completions", json=long, headers=AUTH | {"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()


def test_plain_listener_serves_the_same(http):
    over_tls = http.post("/v1/chat/completions", json=ASK, headers=AUTH)
    with httpx2.Client(base_url=HTTP) as plain:
        reply = plain.post("/v1/chat/completions", json=ASK, headers=AUTH)
    assert reply.http_version == "HTTP/1.1"
    assert reply.content == over_tls.content


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["http/1.1"], []])
def test_tls(version, offered):
    context = ssl.create_default_context(cafile=CA)
    context.minimum_version = context.maximum_version = version
    if offered:
        context.set_alpn_protocols(offered)
    with handshake(context) as tls:
        assert tls.selected_alpn_protocol() == (offered[0] if offered else None)
        assert tls.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_old_tls_is_refused():
    context = ssl.create_default_context(cafile=CA)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(context).close()


def handshake(context):
    address = urlsplit(HTTPS)
    plain = socket.create_connection((address.hostname, address.port), timeout=10)
    return context.wrap_socket(plain, server_hostname=address.hostname)


def test_a_reset_stream_cancels_and_leaves_the_connection_whole(slow_sim):
    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols(["h2"])
    with handshake(context) as tls:
        client = Http2(tls)
        before = slow_sim.cancelled()
        stream = client.ask({"model": "gpt-slow", "stream": True, "sim": {"tokens": 100_000}})
        client.read(stream, events=5)
        client.reset(stream)
        slow_sim.wait_for_cancel(before)
        second = client.ask({"sim": {"text": "still here"}})
        reply = json.loads(client.read(second))
    assert reply["choices"][0]["message"]["content"] == "still here"


class Http2:
    """A client of HTTP/2 that resets streams, as Python's usual one does not."""

    def __init__(self, tls):
        self.tls = tls
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.state.initiate_connection()
        self.flush()

    def ask(self, more):
        """Sends a chat request and returns the number of its stream."""
        stream = self.state.get_next_available_stream_id()
        head = {":method": "POST", ":scheme": "https", ":path": "/v1/chat/completions", ":authority": "localhost"}
        head |= AUTH | {"content-type": "application/json"}
        self.state.send_headers(stream, list(head.items()))
        self.state.send_data(stream, json.dumps(ASK | more).encode(), end_stream=True)
        self.flush()
        return stream

    def read(self, stream, events=None):
        """The body of a stream, to its end or until it holds that many events."""
        body = b""
        while True:
            for event in self.state.receive_data(self.tls.recv(65536)):
                if isinstance(event, h2.events.DataReceived):
                    self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    body += event.data if event.stream_id == stream else b""
                if isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                    return body
            self.flush()
            if events is not None and body.count(b"\n\n") >= events:
                return body

    def reset(self, stream):
        """Leaves a stream."""
        self.state.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()

    def flush(self):
        self.tls.sendall(self.state.data_to_send())
