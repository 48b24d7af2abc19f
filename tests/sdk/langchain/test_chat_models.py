"""LangChain's standard integration tests, of its models for OpenAI and for Anthropic, each before several upstreams."""

from conftest import HTTPS, KEY
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class Base(ChatModelIntegrationTests):
    """What holds for all."""

    __test__ = False
    alias = ""
    # The tests of images and documents fetch theirs from the internet, that of JSON without a schema wants a joke, and
    # that of Anthropic's blocks sends a signature that is not the simulator's.
    supports_json_mode = False
    supports_image_inputs = False


class OpenAI(Base):
    """Chat completions."""

    chat_model_class = ChatOpenAI
    model_override_value = "via-gemini"

    @property
    def chat_model_params(self):
        return {"model": self.alias, "api_key": KEY, "base_url": f"{HTTPS}/v1", "max_retries": 0, "stream_usage": True}


class Anthropic(Base):
    """Messages."""

    chat_model_class = ChatAnthropic
    model_override_value = "via-gemini"

    @property
    def chat_model_params(self):
        return {"model": self.alias, "api_key": KEY, "base_url": HTTPS, "max_retries": 0}


# A native upstream for each, and the ones furthest from it.
UPSTREAMS = {
    OpenAI: ("chat", "responses", "messages", "gemini", "converse"),
    Anthropic: ("messages", "chat", "gemini", "converse", "ollama"),
}

for kind, upstreams in UPSTREAMS.items():
    for upstream in upstreams:
        name = f"Test{kind.__name__}{upstream.title()}"
        globals()[name] = type(name, (kind,), {"__test__": True, "alias": f"via-{upstream}"})
del kind, upstreams, upstream, name
