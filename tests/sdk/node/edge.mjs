// Clients of the edge that `tests/sdk/run` started, over TLS: HTTP/1.1 by Node's own fetch, HTTP/2 by undici's.

import assert from "node:assert/strict";
import diagnostics from "node:diagnostics_channel";
import { describe } from "node:test";
import { setTimeout as wait } from "node:timers/promises";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { Agent, fetch as undiciFetch } from "undici";

const { FOREBAY_HTTPS, FOREBAY_SIM, FOREBAY_SLOW_SIM, FOREBAY_KEY } = process.env;
assert.ok(FOREBAY_HTTPS && FOREBAY_SIM && FOREBAY_SLOW_SIM && FOREBAY_KEY, "these tests need an edge: run `tests/sdk/run`");

export const TEXT = "A forebay evens the flow, and gates the intakes.";
export const UNICODE = 'naïve שלום e\u0301 👩\u200d🚀 \u{10348} \u2028 data: "x"\\ [DONE]';

// Which protocols undici agreed on, so that a test knows that it really spoke HTTP/2.
const agreed = new Set();
diagnostics.subscribe("undici:client:connected", ({ socket }) => agreed.add(socket.alpnProtocol || "http/1.1"));

const transports = {
  "HTTP/1.1": () => ({}),
  "HTTP/2": () => ({ fetch: undiciFetch, fetchOptions: { dispatcher: new Agent({ allowH2: true }) } }),
};

/** Declares a group of tests once for each version of HTTP. */
export function overEach(name, declare) {
  for (const [protocol, transport] of Object.entries(transports)) {
    describe(`${name} over ${protocol}`, () => declare(transport, protocol));
  }
}

/** OpenAI's client. */
export function openai(transport, options = {}) {
  return new OpenAI({
    apiKey: FOREBAY_KEY,
    baseURL: `${FOREBAY_HTTPS}/v1`,
    maxRetries: 0,
    ...transport(),
    ...options,
  });
}

/** Anthropic's client. */
export function anthropic(transport, options = {}) {
  return new Anthropic({ apiKey: FOREBAY_KEY, baseURL: FOREBAY_HTTPS, maxRetries: 0, ...transport(), ...options });
}

/** Fails unless a connection of that protocol was made. */
export function assertSpoken(protocol) {
  const name = protocol === "HTTP/2" ? "h2" : "http/1.1";
  assert.ok(agreed.has(name), `no connection spoke ${name}, only: ${[...agreed]}`);
}

/** Has the simulator fail so: options of a request. */
export function fails(fault) {
  return { headers: { "x-sim-fault": fault } };
}

/** The simulator behind most models, and the one behind those named slow, which makes 200 tokens a second. */
export const SIM = FOREBAY_SIM;
export const SLOW_SIM = FOREBAY_SLOW_SIM;

async function stats(sim) {
  return (await fetch(`${sim}/sim/stats`)).json();
}

/** How many clients have left a simulator before the end. */
export async function cancelled(sim) {
  const counts = Object.values((await stats(sim)).cancelled);
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Waits until one more client has left and nothing is being generated; fails if that is not soon. */
export async function waitForCancel(sim, before) {
  const deadline = Date.now() + 1000;
  while ((await cancelled(sim)) <= before || (await stats(sim)).active > 0) {
    assert.ok(Date.now() < deadline, "still not cancelled after a second");
    await wait(2);
  }
}

/** Every item of a stream. */
export async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
