/**
 * The client of `fedrec client serve` for browsers and Node 18 or newer: one module, no dependencies.
 *
 *     import { Fedrec } from "http://127.0.0.1:8642/fedrec.mjs";   // Node: from a copy of this file
 *     const device = new Fedrec({ url: "http://127.0.0.1:8642", token });
 *     await device.record("7", { event: "like" });
 *     for (const { item, why } of await device.recommend(5)) console.log(item, why);
 *
 * The token is in the file `http-token` of the device's folder. It is sent in a header, and is in no address.
 *
 * @typedef {"view" | "like" | "rating" | "dislike"} Kind
 * @typedef {{number: number, item: string, event: string, time: number | null, weight: number}} Kept an event
 * @typedef {{item: string, event?: Kind, time?: number | null, weight?: number}} Act an event to record
 * @typedef {{item: string, score: number, why: "exact" | "popular" | "fresh" | "diverse" | "explored"}} Recommendation
 * @typedef {{name: string, value: number, share: number}} Share
 * @typedef {{item: string, score: number, baseline: number, attributed: number, past: Share[], groups: Share[], words: string,
 *   svg: string}} Explanation
 * @typedef {{item: string, likeness: number}} Alike
 * @typedef {{algorithm: string, items: number, sha256: string, rated: boolean}} Model
 * @typedef {{version: string, model: Model | null, events: number, opted_out: boolean}} Status
 * @typedef {{run: string, algorithm: string, trust: string, since: number, rounds: number, epsilon: number | null,
 *   used: number, exhausted: number, answers: {outcome: string, why: string, number: number}[]}} RunSpending
 * @typedef {{users: number, epsilon: number, used: number, limit: number, run_limit: number, delta: number,
 *   days: number, blocked_until: number, runs: RunSpending[],
 *   without_events: {why: string, since: number | null, until: number | null} | null}} Spending
 * @typedef {{changed: boolean, sequence: number, run: string, size: number, downloaded: number}} Synced
 * @typedef {{number: string, half_life: number, weight?: number, now?: number | null}} Freshness
 * @typedef {Record<string, string[]>} Blocks labels by block of public categories
 * @typedef {{diversity?: number, freshness?: Freshness, exclude_seen?: boolean, explore?: number, seed?: number, only?: string[],
 *   exclude?: string[], having?: Record<string, string[]>, without?: Record<string, string[]>,
 *   between?: Record<string, [number | null, number | null]>}} Wish
 */

/** An error of the server, or of the way to it. */
export class FedrecError extends Error {
  /**
   * @param {number} status of HTTP; 0 where there was no answer
   * @param {string} code for programs, e.g. "bad_input" or "wrong_token"
   * @param {string} message one line for people
   */
  constructor(status, code, message) {
    super(message);
    this.name = "FedrecError";
    this.status = status;
    this.code = code;
  }
}

/** A device. Methods are those of Python's EdgeClient; each may throw a FedrecError. */
export class Fedrec {
  #url;
  #token;
  #fetch;
  #seconds;

  /**
   * @param {{url?: string, token: string, seconds?: number, fetch?: typeof fetch}} options
   *   url: of the server, in a browser that of the page where it is left out. seconds: until a call is given up.
   */
  constructor({ url = globalThis.location?.origin, token, seconds = 60, fetch = globalThis.fetch }) {
    if (!url) throw new FedrecError(0, "bad_input", "url: give the address of the server, e.g. http://127.0.0.1:8642");
    if (!token) throw new FedrecError(0, "bad_input", "token: give the content of the device's file http-token");
    this.#url = String(url).replace(/\/+$/, "");
    this.#token = String(token).trim();
    this.#fetch = fetch;
    this.#seconds = seconds;
  }

  /**
   * Call one route; the methods below do so.
   * @param {string} name e.g. "record"
   * @param {object} [given] the request; fields that are undefined are left out
   * @param {number} [seconds] until the call is given up
   * @returns {Promise<any>}
   */
  async call(name, given = {}, seconds = this.#seconds) {
    let answer, content;
    try {
      answer = await this.#fetch.call(globalThis, `${this.#url}/v1/${name}`, {
        method: "POST",
        headers: { "Authorization": `Bearer ${this.#token}`, "Content-Type": "application/json" },
        body: JSON.stringify(given),
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
        signal: AbortSignal.timeout(seconds * 1000),
      });
      content = await answer.json();
    } catch (error) {
      const late = error?.name === "TimeoutError";
      throw new FedrecError(0, late ? "slow" : "no_answer", late ? "the server did not answer in time" : "the server does not answer");
    }
    if (answer.ok) return content;
    throw new FedrecError(answer.status, content?.error?.code ?? "unknown", content?.error?.message ?? "no reason was given");
  }

  /** @returns {Promise<Status>} the model in use, the number of events, whether the person opted out */
  status() {
    return this.call("status");
  }

  /**
   * Record what the person did; once this resolves, the event survives a power cut and the next list uses it.
   * @param {string | number} item
   * @param {{event?: Kind, time?: number | null, weight?: number}} [more] time: UTC seconds; now if left out
   * @returns {Promise<Kept>}
   */
  record(item, { event, time, weight } = {}) {
    return this.call("record", { item: String(item), event, time, weight });
  }

  /**
   * Record events in their order, all or none.
   * @param {Act[]} events
   * @returns {Promise<Kept[]>}
   */
  async recordAll(events) {
    return (await this.call("record-all", { events })).events;
  }

  /** @returns {Promise<{item: string, event: string} | null>} the event that was taken back; null where there is none */
  async undo() {
    const gone = await this.call("undo");
    return gone.item === null ? null : gone;
  }

  /** @returns {Promise<Kept[]>} all events in the order of their recording */
  async events() {
    return (await this.call("events")).events;
  }

  /**
   * Erase events and all that was derived from any event. What the device paid of its budget stays paid.
   * @param {{item?: string, before?: number, since?: number, everything?: boolean}} what
   * @returns {Promise<number>} the number of erased events
   */
  async forget(what) {
    return (await this.call("forget", what)).erased;
  }

  /** @returns {Promise<object[]>} all that the store has of the person, in clear */
  async exportMyData() {
    return (await this.call("export")).lines;
  }

  /**
   * @param {number} [k] most places
   * @param {Wish} [wish]
   * @returns {Promise<Recommendation[]>} best first
   */
  async recommend(k = 10, wish = {}) {
    return (await this.call("recommend", { k, ...wish })).items;
  }

  /**
   * @param {string | number} item
   * @returns {Promise<Explanation>} what own past items and groups of features add to the score
   */
  explain(item) {
    return this.call("explain", { item: String(item) });
  }

  /**
   * @param {string | number} item
   * @param {number} [k]
   * @returns {Promise<Alike[]>} most alike first
   */
  async similar(item, k = 10) {
    return (await this.call("similar", { item: String(item), k })).items;
  }

  /**
   * @param {number} [most] most labels of a block
   * @returns {Promise<Blocks>} what a new person may be asked
   */
  async questionnaire(most = 12) {
    return (await this.call("questionnaire", { most })).blocks;
  }

  /**
   * Keep the labels that the person chose, in place of earlier ones; nothing to take them back.
   * @param {Blocks} chosen
   * @returns {Promise<Blocks>} the labels that are kept
   */
  async answer(chosen) {
    return (await this.call("answer", { chosen })).blocks;
  }

  /** @returns {Promise<Blocks>} the labels that the person chose */
  async answers() {
    return (await this.call("answers")).blocks;
  }

  /**
   * Keep a private attribute of the person, which stays on the device.
   * @param {string} name e.g. "language"
   * @param {string | null} value null takes it back
   * @returns {Promise<Record<string, string>>} all attributes
   */
  async setAttribute(name, value) {
    return (await this.call("set-attribute", { name, value })).attributes;
  }

  /** @returns {Promise<Record<string, string>>} the private attributes by name */
  async attributes() {
    return (await this.call("attributes")).attributes;
  }

  /** @returns {Promise<Spending>} what the device spent of its privacy budget */
  budget() {
    return this.call("budget");
  }

  /** Get the newest signed release of the publisher that the device knows. @returns {Promise<Synced>} */
  sync() {
    return this.call("sync", {}, 600);
  }

  /** Contribute only zeros from the next question on; lists do not change. @returns {Promise<boolean>} */
  async optOut() {
    return (await this.call("opt-out")).opted_out;
  }

  /** Contribute again, within the limits of the policy. @returns {Promise<boolean>} */
  async optIn() {
    return (await this.call("opt-in")).opted_out;
  }
}
