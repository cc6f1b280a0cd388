// Drives the gateway with the official SDK. Prints one JSON object; the Python test asserts on it.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: process.argv[3], maxRetries: 0 });
const model = process.argv[4];
const messages = [{ role: "user", content: "Say hello." }];
const out = {};

const { data: plain, response } = await client.chat.completions.create({ model, messages }).withResponse();
out.plain = plain.choices[0].message.content;
out.usage = plain.usage;
out.model = response.headers.get("x-routeiq-model");

out.streamed = "";
out.usageSeen = false;
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
  out.streamed += chunk.choices[0]?.delta?.content ?? "";
  out.usageSeen ||= Boolean(chunk.usage);
}

let last;
for await (const chunk of await client.chat.completions.create({
  model, messages, stream: true, stream_options: { include_usage: true },
})) last = chunk;
out.streamUsage = last.usage;

const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" } } } } }];
const called = await client.chat.completions.create({ model, messages, tools, tool_choice: "required" });
out.tool = called.choices[0].message.tool_calls[0].function.name;

out.models = [];
for await (const one of client.models.list()) out.models.push(one.id);

try {
  await client.chat.completions.create({ model: "no-such-model", messages });
} catch (error) {
  out.error = { status: error.status, code: error.code, type: error.constructor.name, requestID: error.requestID };
}

console.log(JSON.stringify(out));
