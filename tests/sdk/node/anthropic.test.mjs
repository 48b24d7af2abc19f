// Anthropic's TypeScript SDK through the edge.

import assert from "node:assert/strict";
import { test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";

import {
  SIM,
  SLOW_SIM,
  TEXT,
  UNICODE,
  all,
  anthropic,
  assertSpoken,
  cancelled,
  fails,
  overEach,
  waitForCancel,
} from "./edge.mjs";

const messages = [{ role: "user", content: "What is a forebay?" }];
const ask = { model: "claude-sonnet-5", max_tokens: 1024, messages, sim: { text: TEXT } };
const weather = {
  name: "weather",
  input_schema: {
    type: "object",
    properties: { city: { type: "string" }, days: { type: "integer" } },
    required: ["city", "days"],
  },
};

overEach("Anthropic", (transport, protocol) => {
  const client = anthropic(transport);

  test("message", async () => {
    const reply = await client.messages.create({ ...ask, system: "Be brief." });
    assertSpoken(protocol);
    assert.equal(reply.content[0].text, TEXT);
    assert.equal(reply.stop_reason, "end_turn");
    assert.ok(reply.usage.output_tokens > 0);
    assert.ok(reply._request_id);
  });

  test("stream", async () => {
    const events = await all(await client.messages.create({ ...ask, stream: true }));
    assert.equal(events[0].type, "message_start");
    assert.equal(events.at(-1).type, "message_stop");
    const deltas = events.filter((event) => event.type === "content_block_delta");
    assert.equal(deltas.map((event) => event.delta.text).join(""), TEXT);
  });

  test("the stream helper", async () => {
    const final = await client.messages.stream(ask).finalMessage();
    assert.equal(final.content[0].text, TEXT);
    assert.ok(final.usage.output_tokens > 0);
  });

  test("tools, whole and in a stream", async () => {
    const asked = { ...ask, sim: {}, tools: [weather] };
    for (const reply of [await client.messages.create(asked), await client.messages.stream(asked).finalMessage()]) {
      assert.equal(reply.stop_reason, "tool_use");
      assert.equal(reply.content[0].name, "weather");
      assert.deepEqual(Object.keys(reply.content[0].input).sort(), ["city", "days"]);
    }
  });

  test("count_tokens", async () => {
    const { model } = ask;
    const few = await client.messages.countTokens({ model, messages });
    const many = await client.messages.countTokens({ model, messages, system: "word ".repeat(500) });
    assert.ok(few.input_tokens > 0 && few.input_tokens < many.input_tokens);
  });

  test("models", async () => {
    const listed = (await all(client.models.list())).map((model) => model.id);
    assert.ok(listed.includes("claude-sonnet-5"));
    assert.equal((await client.models.retrieve("claude-sonnet-5")).type, "model");
  });

  test("beta", async () => {
    const { sim, ...plain } = ask;
    const reply = await client.beta.messages.create({ ...plain, sim, betas: ["context-1m-2025-08-07"] });
    assert.equal(reply.content[0].text, TEXT);
  });

  test("unicode, a byte at a time", async () => {
    const asked = { ...ask, sim: { text: UNICODE } };
    const final = await client.messages.stream(asked, fails("one_byte")).finalMessage();
    assert.equal(final.content[0].text, UNICODE);
  });

  test("heartbeats do not disturb", async () => {
    for (const fault of ["stall=head,450", "stall=3,450"]) {
      const final = await client.messages.stream({ ...ask, model: "claude-quiet" }, fails(fault)).finalMessage();
      assert.equal(final.content[0].text, TEXT);
    }
  });

  test("errors are the SDK's own", async () => {
    const create = (body, options) => client.messages.create({ ...ask, ...body }, options);
    const rejected = async (promise, kind, status, type) => {
      const error = await promise.then(() => assert.fail("it was answered"), (caught) => caught);
      assert.ok(error instanceof kind, `${error}`);
      assert.deepEqual([error.status, error.error.error.type], [status, type]);
      assert.ok(error.message);
      assert.ok(error.requestID, "this SDK takes the id from the header `request-id`");
    };
    const wrong = anthropic(transport, { apiKey: "sk-wrong" });
    await rejected(wrong.messages.create(ask), Anthropic.AuthenticationError, 401, "authentication_error");
    await rejected(create({ model: "claude-nobody" }), Anthropic.NotFoundError, 404, "not_found_error");
    await rejected(create({}, fails("status=429")), Anthropic.RateLimitError, 429, "rate_limit_error");
    await rejected(create({}, fails("status=500")), Anthropic.InternalServerError, 500, "api_error");
    await rejected(create({}, fails("status=529")), Anthropic.InternalServerError, 529, "overloaded_error");
    await rejected(create({ messages: [] }), Anthropic.BadRequestError, 400, "invalid_request_error");
  });

  test("time-out", async () => {
    const before = await cancelled(SIM);
    const late = client.messages.create(ask, { ...fails("stall"), timeout: 400 });
    await assert.rejects(late, Anthropic.APIConnectionTimeoutError);
    await waitForCancel(SIM, before);
  });

  test("abort mid-stream", async () => {
    const before = await cancelled(SLOW_SIM);
    const asked = { ...ask, model: "claude-slow", max_tokens: 20_000, sim: { tokens: 20_000 } };
    const stream = client.messages.stream(asked);
    let seen = 0;
    for await (const event of stream) {
      if (event.type === "content_block_delta" && ++seen === 8) break;
    }
    stream.abort();
    await waitForCancel(SLOW_SIM, before);
  });

  test("a broken stream is never a silent end", async () => {
    for (const fault of ["cut=4", "reset=4", "error_event=4"]) {
      const stream = client.messages.create({ ...ask, stream: true }, fails(fault));
      await assert.rejects(stream.then(all), Anthropic.APIError, fault);
    }
  });
});
