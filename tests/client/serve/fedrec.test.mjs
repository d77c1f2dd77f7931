// Every method of the JavaScript client in Node, against a real server with a device without events.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const { FEDREC_URL: url, FEDREC_TOKEN: token, FEDREC_MODULE: file } = process.env;
const { Fedrec, FedrecError } = await import(pathToFileURL(file).href);
const device = new Fedrec({ url: `${url}/`, token: `${token}\n` });

const refused = (code, status) => (error) =>
  error instanceof FedrecError && error.code === code && error.status === status && !error.message.includes("\n");

test("a person's way", async () => {
  assert.equal((await device.status()).events, 0);
  assert.equal((await device.recommend(3)).length, 3);
  assert.equal((await device.record("item-3", { event: "like", time: 5 })).number, 1);
  assert.deepEqual(
    (await device.recordAll([{ item: "item-9", time: 50 }, { item: "item-4", event: "rating", weight: 4, time: 60 }])).map((each) => each.number),
    [2, 3],
  );
  assert.deepEqual((await device.events()).map((each) => each.item), ["item-3", "item-9", "item-4"]);
  const list = await device.recommend(5, { diversity: 0, exclude: ["item-1"], having: { taste: ["taste-1"] } });
  assert.ok(list.every((each) => each.item !== "item-1" && Number.isFinite(each.score)));
  assert.equal((await device.explain(list[0].item)).item, list[0].item);
  assert.equal((await device.similar("item-3", 2)).length, 2);
  const asked = await device.questionnaire(2);
  assert.deepEqual(await device.answer({ taste: asked.taste.slice(0, 1) }), { taste: asked.taste.slice(0, 1) });
  assert.deepEqual(await device.answer({}), await device.answers());
  assert.deepEqual(await device.setAttribute("language", "de"), { language: "de" });
  assert.deepEqual(await device.setAttribute("language", null), await device.attributes());
  assert.equal((await device.budget()).epsilon, 0);
  assert.equal(await device.optOut(), true);
  assert.equal(await device.optIn(), false);
  assert.deepEqual(await device.undo(), { item: "item-4", event: "rating" });
  assert.equal((await device.exportMyData()).filter((each) => each.record === "event").length, 2);
  assert.equal(await device.forget({ before: 10 }), 1);
  assert.equal(await device.forget({ everything: true }), 1);
  assert.equal(await device.undo(), null);
});

test("hostile ids come back as they are", async () => {
  const ids = ['"><img src=x onerror=alert(1)>', "__proto__", "x\u2028\u202ex", "💥", "a\nb"];
  await device.recordAll(ids.map((item) => ({ item })));
  assert.deepEqual((await device.events()).map((each) => each.item), ids);
  await device.forget({ everything: true });
});

test("errors have a code, a status and one line", async () => {
  await assert.rejects(device.explain("nothing"), refused("bad_input", 400));
  await assert.rejects(device.call("nothing"), refused("no_such_route", 404));
  await assert.rejects(device.record("a".repeat(2 << 20)), refused("too_large", 413));
  await assert.rejects(new Fedrec({ url, token: "wrong" }).status(), refused("wrong_token", 401));
  await assert.rejects(new Fedrec({ url: "http://127.0.0.1:1", token }).status(), refused("no_answer", 0));
  assert.throws(() => new Fedrec({ url }), refused("bad_input", 0));
  assert.throws(() => new Fedrec({ token }), refused("bad_input", 0));
  const never = (_, { signal }) => new Promise((_, no) => signal.addEventListener("abort", () => no(signal.reason)));
  const awake = setInterval(() => {}, 1000); // Node ends when nothing but the limit of a call is left
  await assert.rejects(new Fedrec({ url, token, seconds: 0.05, fetch: never }).status(), refused("slow", 0));
  clearInterval(awake);
});
