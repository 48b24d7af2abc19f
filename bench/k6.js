// The JSON scenario for k6 (https://k6.io): exchanges at a steady rate through a proxy, every reply checked.
//
//   target/release/examples/load upstream --listen 127.0.0.1:9100      (or any engine that the proxy leads to)
//   k6 run -e TARGET=http://127.0.0.1:8080 -e RATE=5000 -e SECONDS=10 bench/k6.js
//
// `bench/run` does not need it; it is for those who trust the load generator that they know.

import http from "k6/http";
import { check } from "k6";
import exec from "k6/execution";

const target = __ENV.TARGET || "http://127.0.0.1:8080";
const model = __ENV.MODEL || "bench";
const headers = { "content-type": "application/json" };
if (__ENV.KEY) {
  headers.authorization = `Bearer ${__ENV.KEY}`;
}

export const options = {
  discardResponseBodies: false,
  scenarios: {
    json: {
      // An open loop: requests are due whether or not replies come.
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE || 1000),
      timeUnit: "1s",
      duration: `${__ENV.SECONDS || 10}s`,
      preAllocatedVUs: Number(__ENV.CONNECTIONS || 64),
      maxVUs: 1024,
    },
  },
  summaryTrendStats: ["med", "p(90)", "p(99)", "max"],
  thresholds: { checks: ["rate==1.0"], dropped_iterations: ["count==0"] },
};

const SIZE = 200;

// A body of 200 bytes, as long as the model's name leaves room, under a number that the reply must repeat.
function body(number) {
  const before = `{"model":"${model}","messages":[{"role":"user","content":"`;
  const after = `"}],"max_tokens":64,"user":"bench-${number}-00000000"}`;
  const room = Math.max(0, SIZE - before.length - after.length);
  return before + "the quick brown fox jumps over the lazy dog ".repeat(4).slice(0, room) + after;
}

export default function () {
  const number = String(exec.scenario.iterationInTest % 100000000).padStart(8, "0");
  const reply = http.post(`${target}/v1/chat/completions`, body(number), { headers });
  check(reply, {
    "status is 200": (r) => r.status === 200,
    "the reply is the one to this request": (r) => r.json("id") === `chatcmpl-${number}`,
    "the reply is whole": (r) => r.json("usage.total_tokens") === 36,
  });
}
