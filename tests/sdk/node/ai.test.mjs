// The Vercel AI SDK through the edge: each of its providers before every dialect that an upstream can speak.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { TEXT } from "./edge.mjs";

const { FOREBAY_HTTPS, FOREBAY_KEY } = process.env;

// Aliases of the edge: see `UPSTREAMS` in `tests/sdk/run`.
const UPSTREAMS = ["chat", "responses", "messages", "gemini", "converse", "cohere", "ollama"];

const openai = createOpenAI({ apiKey: FOREBAY_KEY, baseURL: `${FOREBAY_HTTPS}/v1` });
const anthropic = createAnthropic({ apiKey: FOREBAY_KEY, baseURL: `${FOREBAY_HTTPS}/v1` });
const google = createGoogleGenerativeAI({ apiKey: FOREBAY_KEY, baseURL: `${FOREBAY_HTTPS}/v1beta` });

const PROVIDERS = {
  "openai.chat": (alias) => ({ model: openai.chat(alias) }),
  // Or it would send references to items, which only an upstream that stores them understands.
  "openai.responses": (alias) => ({
    model: openai.responses(alias),
    providerOptions: { openai: { store: false } },
  }),
  anthropic: (alias) => ({ model: anthropic(alias) }),
  google: (alias) => ({ model: google(alias) }),
};

// Neither a header nor a member of the body reaches the simulator through a translator; the words of a prompt do.
function told(knobs) {
  const words = Object.entries(knobs).map(([name, value]) => `(x-sim-${name}: ${value})`);
  return ["What is a forebay?", ...words].join(" ");
}

const inputSchema = z.object({ city: z.string(), days: z.number().int() });

for (const [name, provider] of Object.entries(PROVIDERS)) {
  describe(`the AI SDK's ${name}`, () => {
    for (const upstream of UPSTREAMS) {
      const options = { ...provider(`via-${upstream}`), maxRetries: 0 };

      test(`a text from ${upstream}`, async () => {
        const reply = await generateText({ ...options, prompt: told({ text: TEXT }) });
        assert.equal(reply.text, TEXT);
        assert.equal(reply.finishReason, "stop");
        assert.ok(reply.usage.inputTokens > 0);
        assert.equal(reply.usage.outputTokens, TEXT.split(" ").length);
      });

      test(`a stream from ${upstream}`, async () => {
        const reply = streamText({ ...options, prompt: told({ text: TEXT }) });
        let text = "";
        for await (const piece of reply.textStream) text += piece;
        assert.equal(text, TEXT);
        assert.equal(await reply.finishReason, "stop");
        assert.equal((await reply.usage).outputTokens, TEXT.split(" ").length);
      });

      // The provider for chat completions reads no thoughts, because OpenAI sends none there; that for Responses reads
      // summaries of them, but not the text that open models are content to show.
      const open = ["chat", "cohere", "ollama"].includes(upstream);
      const unread = name === "openai.chat" || (name === "openai.responses" && open);
      test(`thoughts of ${upstream}`, { skip: unread }, async () => {
        const asked = { ...options, prompt: told({ text: TEXT, reasoning: "So be it." }) };
        const whole = await generateText(asked);
        assert.deepEqual([whole.reasoningText, whole.text], ["So be it.", TEXT]);
        const streamed = streamText(asked);
        assert.deepEqual([await streamed.reasoningText, await streamed.text], ["So be it.", TEXT]);
      });

      test(`a tool, called by ${upstream} and answered`, async () => {
        const seen = [];
        const execute = async (input) => seen.push(input) && "It rains.";
        const tools = { weather: tool({ description: "The weather of a city.", inputSchema, execute }) };
        const asked = { ...options, tools, stopWhen: stepCountIs(3), prompt: "Weather?" };
        const reply = await generateText(asked);
        assert.ok(reply.text);
        const streamed = streamText(asked);
        assert.ok(await streamed.text);
        assert.equal((await streamed.steps).length, 2);
        assert.equal(seen.length, 2);
        for (const input of seen) inputSchema.parse(input);
      });

      test(`an object from ${upstream}`, async () => {
        const { object } = await generateObject({ ...options, schema: inputSchema, prompt: "Weather?" });
        inputSchema.parse(object);
      });

      test(`errors of ${upstream}`, async () => {
        for (const [status, retryable] of [[400, false], [429, true], [503, true]]) {
          const asked = { ...options, prompt: told({ fault: `status=${status}` }) };
          const error = await generateText(asked).then(() => assert.fail("it was answered"), (caught) => caught);
          assert.ok(APICallError.isInstance(error), `${error}`);
          assert.ok(error.statusCode === status || (status === 503 && error.statusCode === 529), `${error.statusCode}`);
          assert.equal(error.isRetryable, retryable);
          assert.ok(error.message);
        }
        const errors = [];
        const prompt = told({ text: TEXT, fault: "error_event=4" });
        const broken = streamText({ ...options, prompt, onError: ({ error }) => errors.push(error) });
        await broken.consumeStream();
        assert.equal(errors.length, 1);
      });
    }
  });
}
