"""The five client SDKs behind one face, so that each test is written once for all of them.

Where a translator stands between a client and the simulator, neither a header nor a member of the body tells the
simulator what to say. The words of the prompt do.
"""

import dataclasses
import json
import os
import ssl

import anthropic
import boto3
import botocore.config
import botocore.exceptions
import google.genai
import openai
from google.genai import errors, types

HTTPS, CA, KEY = (os.environ.get(name, "") for name in ("FOREBAY_HTTPS", "FOREBAY_CA", "FOREBAY_KEY"))

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
NAME, ABOUT = "weather", "The weather of a city."


@dataclasses.dataclass
class Said:
    """What a reply comes to, in words that no dialect owns."""

    text: str = ""
    thought: str = ""
    calls: list = dataclasses.field(default_factory=list)
    # One of stop, length, tools.
    finish: str = ""
    # Tokens of the prompt, of the reply.
    usage: tuple = (0, 0)
    # What has to be sent back for the conversation to go on.
    turn: object = None


def told(prompt="What is a forebay?", **knobs):
    """A prompt that tells the simulator what to do: `text`, `fault`, `tokens`, `reasoning`, `tool_calls`."""
    words = [f"(x-sim-{name.replace('_', '-')}: {value})" for name, value in knobs.items()]
    return " ".join([prompt, *words])


class Chat:
    """OpenAI's SDK, chat completions."""

    name = "chat"
    unknown = 404
    failures = (openai.APIError,)
    kinds = {
        400: openai.BadRequestError,
        404: openai.NotFoundError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
        503: openai.InternalServerError,
    }

    def __init__(self):
        http = openai.DefaultHttpxClient(verify=ssl.create_default_context(cafile=CA))
        self.client = openai.OpenAI(api_key=KEY, base_url=f"{HTTPS}/v1", max_retries=0, http_client=http)

    def body(self, model, prompt, tools, history, limit):
        asked = {"model": model, "messages": [{"role": "user", "content": prompt}, *history]}
        if tools:
            function = {"name": NAME, "description": ABOUT, "parameters": SCHEMA}
            asked["tools"] = [{"type": "function", "function": function}]
        if limit:
            asked["max_completion_tokens"] = limit
        return asked

    def ask(self, model, prompt, tools=False, history=(), limit=None):
        reply = self.client.chat.completions.create(**self.body(model, prompt, tools, history, limit))
        return self.read(reply)

    def stream(self, model, prompt, tools=False, limit=None):
        asked = self.body(model, prompt, tools, (), limit)
        with self.client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            try:
                return self.read(stream.get_final_completion())
            # The helper does not hand out what was cut short; its error does.
            except openai.LengthFinishReasonError as cut:
                return self.read(cut.completion)

    def read(self, reply):
        choice = reply.choices[0]
        return Said(
            text=choice.message.content or "",
            thought=getattr(choice.message, "reasoning_content", None) or "",
            calls=[
                (call.id, call.function.name, json.loads(call.function.arguments))
                for call in choice.message.tool_calls or []
            ],
            finish={"stop": "stop", "length": "length", "tool_calls": "tools"}[choice.finish_reason],
            usage=(reply.usage.prompt_tokens, reply.usage.completion_tokens),
            turn=choice.message.to_dict(),
        )

    def answers(self, said, result):
        results = [{"role": "tool", "tool_call_id": id, "content": result} for id, _, _ in said.calls]
        return [said.turn, *results]

    def status(self, error):
        return error.status_code


class Responses(Chat):
    """OpenAI's SDK, Responses."""

    name = "responses"
    # This API says 400 to a model that it does not know.
    unknown = 400

    def body(self, model, prompt, tools, history, limit):
        asked = {"model": model, "input": [{"role": "user", "content": prompt}, *history], "store": False}
        if tools:
            tool = {"type": "function", "name": NAME, "description": ABOUT, "parameters": SCHEMA, "strict": False}
            asked["tools"] = [tool]
        if limit:
            asked["max_output_tokens"] = limit
        return asked

    def ask(self, model, prompt, tools=False, history=(), limit=None):
        return self.read(self.client.responses.create(**self.body(model, prompt, tools, history, limit)))

    def stream(self, model, prompt, tools=False, limit=None):
        with self.client.responses.stream(**self.body(model, prompt, tools, (), limit)) as stream:
            last = [event for event in stream][-1]
            if last.type == "response.incomplete":
                return self.read(last.response)
            return self.read(stream.get_final_response())

    def read(self, reply):
        calls = [item for item in reply.output if item.type == "function_call"]
        thoughts = [item for item in reply.output if item.type == "reasoning"]
        ends = {"completed": "tools" if calls else "stop", "incomplete": "length"}
        return Said(
            text=reply.output_text,
            # What a model thought is summed up, or, where nobody minds it being read, told in full.
            thought="".join(part.text for item in thoughts for part in item.summary or item.content or []),
            calls=[(call.call_id, call.name, json.loads(call.arguments)) for call in calls],
            finish=ends[reply.status],
            usage=(reply.usage.input_tokens, reply.usage.output_tokens),
            turn=[item.to_dict() for item in reply.output],
        )

    def answers(self, said, result):
        results = [{"type": "function_call_output", "call_id": id, "output": result} for id, _, _ in said.calls]
        # What a helper parsed is its own and no part of the dialect.
        turn = [{key: value for key, value in item.items() if key != "parsed_arguments"} for item in said.turn]
        return [*turn, *results]


class Messages:
    """Anthropic's SDK."""

    name = "messages"
    unknown = 404
    failures = (anthropic.APIError,)
    kinds = {
        400: anthropic.BadRequestError,
        404: anthropic.NotFoundError,
        429: anthropic.RateLimitError,
        500: anthropic.InternalServerError,
        503: anthropic.InternalServerError,
    }

    def __init__(self):
        http = anthropic.DefaultHttpxClient(verify=ssl.create_default_context(cafile=CA))
        self.client = anthropic.Anthropic(api_key=KEY, base_url=HTTPS, max_retries=0, http_client=http)

    def body(self, model, prompt, tools, history, limit):
        messages = [{"role": "user", "content": prompt}, *history]
        asked = {"model": model, "max_tokens": limit or 1024, "messages": messages}
        if tools:
            asked["tools"] = [{"name": NAME, "description": ABOUT, "input_schema": SCHEMA}]
        return asked

    def ask(self, model, prompt, tools=False, history=(), limit=None):
        return self.read(self.client.messages.create(**self.body(model, prompt, tools, history, limit)))

    def stream(self, model, prompt, tools=False, limit=None):
        with self.client.messages.stream(**self.body(model, prompt, tools, (), limit)) as stream:
            return self.read(stream.get_final_message())

    def read(self, reply):
        return Said(
            text="".join(block.text for block in reply.content if block.type == "text"),
            thought="".join(block.thinking for block in reply.content if block.type == "thinking"),
            calls=[(block.id, block.name, block.input) for block in reply.content if block.type == "tool_use"],
            finish={"end_turn": "stop", "max_tokens": "length", "tool_use": "tools"}[reply.stop_reason],
            usage=(reply.usage.input_tokens, reply.usage.output_tokens),
            turn=[block.to_dict() for block in reply.content],
        )

    def answers(self, said, result):
        results = [{"type": "tool_result", "tool_use_id": id, "content": result} for id, _, _ in said.calls]
        return [{"role": "assistant", "content": said.turn}, {"role": "user", "content": results}]

    def status(self, error):
        return error.status_code


class Google:
    """Google's SDK."""

    name = "google"
    unknown = 404
    failures = (errors.APIError,)
    kinds = {
        400: errors.ClientError,
        404: errors.ClientError,
        429: errors.ClientError,
        500: errors.ServerError,
        503: errors.ServerError,
    }

    def __init__(self, key=KEY):
        trust = {"verify": ssl.create_default_context(cafile=CA)}
        options = types.HttpOptions(base_url=HTTPS, client_args=trust, async_client_args=trust)
        self.client = google.genai.Client(api_key=key, vertexai=False, http_options=options)

    def config(self, tools, limit):
        declared = types.FunctionDeclaration(name=NAME, description=ABOUT, parameters_json_schema=SCHEMA)
        return types.GenerateContentConfig(
            tools=[types.Tool(function_declarations=[declared])] if tools else None,
            max_output_tokens=limit,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )

    def contents(self, prompt, history):
        return [types.UserContent(prompt), *history]

    def ask(self, model, prompt, tools=False, history=(), limit=None):
        reply = self.client.models.generate_content(
            model=model, contents=self.contents(prompt, history), config=self.config(tools, limit)
        )
        return self.read([reply])

    def stream(self, model, prompt, tools=False, limit=None):
        replies = self.client.models.generate_content_stream(
            model=model, contents=self.contents(prompt, ()), config=self.config(tools, limit)
        )
        return self.read(list(replies))

    def read(self, replies):
        parts = [part for reply in replies for part in reply.parts or []]
        calls = [part.function_call for part in parts if part.function_call]
        (candidate,) = replies[-1].candidates
        usage = replies[-1].usage_metadata
        end = {"STOP": "tools" if calls else "stop", "MAX_TOKENS": "length"}[candidate.finish_reason.name]
        return Said(
            text="".join(part.text for part in parts if part.text and not part.thought),
            thought="".join(part.text for part in parts if part.text and part.thought),
            calls=[(call.id, call.name, call.args) for call in calls],
            finish=end,
            usage=(usage.prompt_token_count, usage.candidates_token_count),
            turn=types.ModelContent([part for part in parts if part != types.Part(text="")]),
        )

    def answers(self, said, result):
        parts = [
            types.Part(function_response=types.FunctionResponse(id=id, name=name, response={"result": result}))
            for id, name, _ in said.calls
        ]
        return [said.turn, types.UserContent(parts)]

    def status(self, error):
        return error.code


class Bedrock:
    """AWS's SDK, Converse."""

    name = "bedrock"
    unknown = 404
    failures = (botocore.exceptions.ClientError, botocore.exceptions.EventStreamError)
    kinds = dict.fromkeys((400, 404, 429, 500, 503), botocore.exceptions.ClientError)

    def __init__(self):
        self.client = bedrock_client()

    def body(self, model, prompt, tools, history, limit):
        asked = {"modelId": model, "messages": [{"role": "user", "content": [{"text": prompt}]}, *history]}
        if tools:
            spec = {"name": NAME, "description": ABOUT, "inputSchema": {"json": SCHEMA}}
            asked["toolConfig"] = {"tools": [{"toolSpec": spec}]}
        if limit:
            asked["inferenceConfig"] = {"maxTokens": limit}
        return asked

    def ask(self, model, prompt, tools=False, history=(), limit=None):
        reply = self.client.converse(**self.body(model, prompt, tools, history, limit))
        return self.read(reply["output"]["message"]["content"], reply["stopReason"], reply["usage"])

    def stream(self, model, prompt, tools=False, limit=None):
        blocks, end, usage = {}, None, None
        for event in self.client.converse_stream(**self.body(model, prompt, tools, (), limit))["stream"]:
            if start := event.get("contentBlockStart"):
                blocks[start["contentBlockIndex"]] = {"toolUse": start["start"]["toolUse"] | {"input": ""}}
            elif change := event.get("contentBlockDelta"):
                self.fold(blocks, change["contentBlockIndex"], change["delta"])
            elif "messageStop" in event:
                end = event["messageStop"]["stopReason"]
            elif "metadata" in event:
                usage = event["metadata"]["usage"]
        for block in blocks.values():
            if "toolUse" in block:
                block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
        return self.read([blocks[index] for index in sorted(blocks)], end, usage)

    def fold(self, blocks, index, delta):
        """Puts a delta of a stream into its block. Only a use of a tool has a block before its first delta."""
        if "text" in delta:
            blocks.setdefault(index, {"text": ""})["text"] += delta["text"]
        elif "toolUse" in delta:
            blocks[index]["toolUse"]["input"] += delta["toolUse"]["input"]
        else:
            empty = {"reasoningContent": {"reasoningText": {"text": ""}}}
            thought = blocks.setdefault(index, empty)["reasoningContent"]["reasoningText"]
            for key, piece in delta["reasoningContent"].items():
                thought[key] = thought.get(key, "") + piece

    def read(self, content, end, usage):
        thoughts = [block["reasoningContent"]["reasoningText"] for block in content if "reasoningContent" in block]
        uses = [block["toolUse"] for block in content if "toolUse" in block]
        return Said(
            text="".join(block.get("text", "") for block in content),
            thought="".join(thought["text"] for thought in thoughts),
            calls=[(use["toolUseId"], use["name"], use["input"]) for use in uses],
            finish={"end_turn": "stop", "max_tokens": "length", "tool_use": "tools"}[end],
            usage=(usage["inputTokens"], usage["outputTokens"]),
            turn={"role": "assistant", "content": content},
        )

    def answers(self, said, result):
        results = [
            {"toolResult": {"toolUseId": id, "content": [{"text": result}]}} for id, _, _ in said.calls
        ]
        return [said.turn, {"role": "user", "content": results}]

    def status(self, error):
        return error.response["ResponseMetadata"]["HTTPStatusCode"]


def bedrock_client(url=None):
    """AWS's client. A virtual key is sent as what AWS calls a Bedrock API key."""
    os.environ["AWS_BEARER_TOKEN_BEDROCK"] = KEY
    config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=30)
    return boto3.client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=url or HTTPS, verify=CA, config=config
    )


CLIENTS = (Chat, Responses, Messages, Google, Bedrock)
