// OpenAI's Node SDK through the edge.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

import {
  SIM,
  SLOW_SIM,
  TEXT,
  UNICODE,
  all,
  assertSpoken,
  cancelled,
  fails,
  openai,
  overEach,
  waitForCancel,
} from "./edge.mjs";

const messages = [{ role: "user", content: "What is a forebay?" }];
const ask = { model: "gpt-4o", messages, sim: { text: TEXT } };
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, days: { type: "integer" } },
      required: ["city", "days"],
    },
  },
};
const tooled = { model: "gpt-4o", messages, tools: [weather] };

const textOf = (chunks) => chunks.flatMap((chunk) => chunk.choices.map((one) => one.delta.content ?? "")).join("");

overEach("OpenAI", (transport, protocol) => {
  const client = openai(transport);

  test("chat", async () => {
    const { data, request_id: id } = await client.chat.completions.create(ask).withResponse();
    assertSpoken(protocol);
    assert.equal(data.choices[0].message.content, TEXT);
    assert.ok(data.usage.completion_tokens > 0);
    assert.ok(id);
  });

  test("a chat stream shows usage only if asked", async () => {
    const quiet = await all(await client.chat.completions.create({ ...ask, stream: true }));
    assert.equal(textOf(quiet), TEXT);
    assert.ok(quiet.every((chunk) => chunk.usage == null && chunk.choices.length > 0));
    const stream_options = { include_usage: true };
    const told = await all(await client.chat.completions.create({ ...ask, stream: true, stream_options }));
    assert.equal(textOf(told), TEXT);
    assert.deepEqual(told.at(-1).choices, []);
    assert.ok(told.at(-1).usage.completion_tokens > 0);
  });

  test("the stream helper", async () => {
    const final = await client.chat.completions.stream(ask).finalChatCompletion();
    assert.equal(final.choices[0].message.content, TEXT);
  });

  test("tools", async () => {
    const reply = await client.chat.completions.create(tooled);
    const [call] = reply.choices[0].message.tool_calls;
    assert.equal(reply.choices[0].finish_reason, "tool_calls");
    assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)).sort(), ["city", "days"]);
  });

  test("tools in a stream", async () => {
    const chunks = await all(await client.chat.completions.create({ ...tooled, stream: true }));
    const pieces = chunks.flatMap((chunk) => chunk.choices[0]?.delta.tool_calls ?? []);
    assert.ok(pieces.length > 2);
    const text = pieces.map((piece) => piece.function.arguments ?? "").join("");
    assert.deepEqual(Object.keys(JSON.parse(text)).sort(), ["city", "days"]);
    const final = await client.chat.completions.stream(tooled).finalChatCompletion();
    assert.equal(final.choices[0].message.tool_calls[0].function.name, "weather");
  });

  test("embeddings", async () => {
    const asked = { model: "text-embedding-3-small", input: ["one", "two"] };
    const reply = await client.embeddings.create(asked);
    const plain = await client.embeddings.create({ ...asked, encoding_format: "float" });
    for (const [index, { embedding }] of reply.data.entries()) {
      assert.ok(Math.abs(embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-3);
      assert.ok(embedding.every((x, at) => Math.abs(x - plain.data[index].embedding[at]) < 1e-6));
    }
  });

  test("models", async () => {
    const listed = (await all(client.models.list())).map((model) => model.id);
    assert.ok(listed.includes("gpt-4o"));
    assert.equal((await client.models.retrieve("gpt-4o")).id, "gpt-4o");
  });

  test("legacy completions", async () => {
    const asked = { model: "gpt-4o", prompt: "Once", sim: { text: TEXT } };
    assert.equal((await client.completions.create(asked)).choices[0].text, TEXT);
    const chunks = await all(await client.completions.create({ ...asked, stream: true }));
    assert.equal(chunks.flatMap((chunk) => chunk.choices.map((one) => one.text)).join(""), TEXT);
  });

  test("responses", async () => {
    const asked = { model: "gpt-4o", input: "What is a forebay?", sim: { text: TEXT } };
    assert.equal((await client.responses.create(asked)).output_text, TEXT);
    const events = await all(await client.responses.create({ ...asked, stream: true }));
    assert.equal(events.at(-1).type, "response.completed");
    const deltas = events.filter((event) => event.type === "response.output_text.delta");
    assert.equal(deltas.map((event) => event.delta).join(""), TEXT);
    const final = await client.responses.stream(asked).finalResponse();
    assert.equal(final.output_text, TEXT);
  });

  test("unicode, a byte at a time", async () => {
    const asked = { ...ask, sim: { text: UNICODE }, stream: true };
    assert.equal(textOf(await all(await client.chat.completions.create(asked, fails("one_byte")))), UNICODE);
  });

  test("heartbeats do not disturb", async () => {
    const asked = { ...ask, model: "gpt-quiet", stream: true };
    for (const fault of ["stall=head,450", "stall=2,450"]) {
      assert.equal(textOf(await all(await client.chat.completions.create(asked, fails(fault)))), TEXT);
    }
  });

  test("errors are the SDK's own", async () => {
    const create = (body, options) => client.chat.completions.create({ ...ask, ...body }, options);
    const rejected = async (promise, kind, expected) => {
      const error = await promise.then(() => assert.fail("it was answered"), (caught) => caught);
      assert.ok(error instanceof kind, `${error}`);
      const { status, code, type } = error;
      assert.deepEqual({ status, code, type }, expected);
      assert.ok(error.message && error.requestID);
    };
    const invalid = "invalid_request_error";
    const wrong = openai(transport, { apiKey: "sk-wrong" });
    await rejected(wrong.chat.completions.create(ask), OpenAI.AuthenticationError, {
      status: 401, code: "invalid_api_key", type: invalid,
    });
    await rejected(create({ model: "gpt-nobody" }), OpenAI.NotFoundError, {
      status: 404, code: "model_not_found", type: invalid,
    });
    await rejected(create({}, fails("status=429")), OpenAI.RateLimitError, {
      status: 429, code: "rate_limit_exceeded", type: "requests",
    });
    await rejected(create({}, fails("status=500")), OpenAI.InternalServerError, {
      status: 500, code: null, type: "server_error",
    });
    await rejected(create({ messages: [] }), OpenAI.BadRequestError, { status: 400, code: null, type: invalid });
  });

  test("time-out", async () => {
    const before = await cancelled(SIM);
    const late = client.chat.completions.create(ask, { ...fails("stall"), timeout: 400 });
    await assert.rejects(late, OpenAI.APIConnectionTimeoutError);
    await waitForCancel(SIM, before);
  });

  test("abort mid-stream", async () => {
    const before = await cancelled(SLOW_SIM);
    const asked = { model: "gpt-slow", messages, stream: true, sim: { tokens: 100_000 } };
    const stream = await client.chat.completions.create(asked);
    let seen = 0;
    for await (const _ of stream) if (++seen === 8) stream.controller.abort();
    assert.equal(seen, 8);
    await waitForCancel(SLOW_SIM, before);
  });

  test("abort by leaving the loop", async () => {
    const before = await cancelled(SLOW_SIM);
    const asked = { model: "gpt-slow", input: "?", stream: true, sim: { tokens: 100_000 } };
    for await (const event of await client.responses.create(asked)) {
      if (event.type === "response.output_text.delta") break;
    }
    await waitForCancel(SLOW_SIM, before);
  });

  test("a broken stream is never a silent end", async () => {
    for (const fault of ["cut=6", "reset=6", "error_event=3"]) {
      const chat = client.chat.completions.create({ ...ask, stream: true }, fails(fault));
      await assert.rejects(chat.then(all), OpenAI.APIError, `chat, ${fault}`);
      const asked = { model: "gpt-4o", input: "?", stream: true, sim: { text: TEXT } };
      const response = client.responses.create(asked, fails(fault));
      await assert.rejects(response.then(all), OpenAI.APIError, `responses, ${fault}`);
    }
  });
});
