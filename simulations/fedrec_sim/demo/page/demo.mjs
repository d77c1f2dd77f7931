// The page of `fedrec demo`. It shows what the device's own API and ledger answer, and computes nothing of its own.
import { Fedrec, FedrecError } from "/fedrec.mjs";

const KEY = "fedrec-token";
const PLACES = 8;
const SHELF = 24;
const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");

let device;
let things = new Map(); // id -> {item, title, kinds, year}
let genres = []; // in alphabetical order
let events = [];
let shown = SHELF;
let open = null; // the item whose reasons are open
let reasons = new Map(); // id -> explanation of the present list
let state = { phase: "loading" };
let turn = 0; // of the list; an answer of an earlier one is dropped

/** Make an element. Text is text: nothing is ever read as HTML. */
function make(tag, { text, on = {}, ...attributes } = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) found.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) found.setAttribute(name, value);
  }
  for (const [name, call] of Object.entries(on)) found.addEventListener(name, call);
  if (text !== undefined) found.textContent = text;
  found.append(...children.filter((each) => each !== null));
  return found;
}

/** Replace the children of an element; the keyboard stays where it was, or at the element. */
function redraw(parent, children) {
  const key = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...children);
  if (key === undefined) return;
  (parent.querySelector(`[data-key="${CSS.escape(key)}"]`) ?? parent).focus({ preventScroll: true });
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  return svg;
}

const thing = (item) => things.get(item) ?? { item, title: item, kinds: [], year: null };
const meta = ({ year, kinds }) => [year, kinds.slice(0, 3).join(", ")].filter(Boolean).join(" · ");
const percent = (share) => `${Math.round(share * 100)} %`;
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: 3 });

function cover({ title, kinds }, ...inside) {
  const found = make("span", { class: "cover", "aria-hidden": "true" }, ...inside);
  found.style.setProperty("--hue", 168 + 137.5 * Math.max(0, genres.indexOf(kinds[0]))); // far apart for neighbours
  found.prepend([...title.replace(/^(The|A|An) /, "")][0] ?? "");
  return found;
}

function say(line) {
  $("toast").textContent = line;
  $("toast").classList.add("on");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => $("toast").classList.remove("on"), 3200);
}

/** Run an act of the person; an error is one line. */
const act = (call) => async (...given) => {
  try {
    await call(...given);
  } catch (error) {
    if (!(error instanceof FedrecError)) throw error;
    if (error.code === "wrong_token") return gate();
    say(error.message);
  }
};

// ---- the list

const opinion = (item) => {
  let found = null;
  for (const each of events) {
    if (each.item === item && each.event === "like") found = "like";
    if (each.item === item && each.event === "dislike") found = "dislike";
  }
  return found;
};

const like = act(async (item) => {
  if (opinion(item) === "like") await device.forget({ item });
  else await device.record(item, { event: "like" });
  await refresh();
});

const refuse = act(async (item) => {
  await device.record(item, { event: "dislike" });
  say(`“${thing(item).title}” will not be listed again`);
  await refresh();
});

/** The shares that raise a score. */
const raising = (shares) => (shares ?? []).filter((each) => each.share > 0);

function because(entry) {
  const past = raising(reasons.get(entry.item)?.past);
  if (!events.length && entry.why === "exact") return ["plain", "Because of what you picked"];
  if (entry.why === "popular") return ["plain", "Popular, until you tap something"];
  if (entry.why === "explored") return ["plain", "A try: drawn at random from the next best"];
  if (!past.length && entry.why === "diverse") return ["plain", "Unlike the others on the list"];
  if (!past.length) return raising(reasons.get(entry.item)?.groups).length ? ["", "Because of what it is about"] : ["plain", ""];
  const names = past.slice(0, 2).map((each) => thing(each.name).title);
  return ["", `Because of ${names.join(" and ")}`];
}

function bars(title, parts, name) {
  if (!parts.length) return null;
  const rows = parts.slice(0, 4).map((each) => {
    const bar = make("i");
    bar.style.setProperty("--share", each.share * 100);
    return make("div", { class: "bar" }, make("span", { text: name(each.name) }), make("span", { text: percent(each.share) }), bar);
  });
  return make("div", {}, make("h3", { text: title }), ...rows);
}

function row(entry, place) {
  const about = thing(entry.item);
  const [kind, text] = because(entry);
  const reason = reasons.get(entry.item);
  const isOpen = open === entry.item && reason !== undefined && kind !== "plain";
  const why = kind === "plain"
    ? make("p", { class: "why plain", text })
    : make("button", {
        class: "why", type: "button", text, "data-key": `why ${entry.item}`, "aria-expanded": String(isOpen),
        on: { click: () => { open = isOpen ? null : entry.item; drawList(); } },
      });
  const heart = make("button", { class: "round-button", type: "button", "data-key": `like ${entry.item}`, "aria-label": `Like ${about.title}`, title: "Like", on: { click: () => like(entry.item) } }, icon("heart"));
  const cross = make("button", { class: "round-button", type: "button", "data-key": `not ${entry.item}`, "aria-label": `Not for me: ${about.title}`, title: "Not for me", on: { click: () => refuse(entry.item) } }, icon("cross"));
  const words = make("div", {}, make("p", { class: "title", text: about.title }), make("p", { class: "meta", text: meta(about) }), why);
  const line = make("div", { class: "line" }, make("span", { class: "rank", text: String(place + 1) }), cover(about), words, make("span", { class: "acts" }, heart, cross));
  const found = make("li", { class: "row", "data-item": entry.item }, line);
  if (isOpen) {
    found.append(make("div", { class: "reasons" },
      bars("From what you did", raising(reason.past), (id) => thing(id).title),
      bars("From groups of features", raising(reason.groups), (name) => name.replaceAll(" x ", " × "))));
  }
  return found;
}

let list = [];

function drawList() {
  const before = new Map([...$("list").children].map((each) => [each.dataset.item, each.getBoundingClientRect().top]));
  redraw($("list"), list.map(row));
  $("list-empty").hidden = list.length > 0;
  if (still.matches || !before.size) return;
  for (const each of $("list").children) {
    const old = before.get(each.dataset.item);
    const now = each.getBoundingClientRect().top;
    if (old === undefined) each.animate([{ opacity: 0, transform: "translateY(10px)" }, { opacity: 1, transform: "none" }], { duration: 380, easing: "ease-out" });
    else if (old !== now) each.animate([{ transform: `translateY(${old - now}px)` }, { transform: "none" }], { duration: 420, easing: "cubic-bezier(.2,.7,.2,1)" });
  }
}

function drawTaps() {
  const newest = new Map();
  for (const each of events) newest.set(each.item, each);
  const chips = [...newest.values()].reverse().map((each) => make("li", { class: each.event === "dislike" ? "tap low" : "tap" },
    make("span", { text: thing(each.item).title }),
    make("button", {
      type: "button", "data-key": each.item, "aria-label": `Forget ${thing(each.item).title}`, title: "Forget",
      on: { click: act(async () => { await device.forget({ item: each.item }); await refresh(); }) },
    }, icon("cross"))));
  redraw($("taps"), chips);
  $("taps-empty").hidden = chips.length > 0;
  $("undo").hidden = chips.length === 0;
}

function drawShelf() {
  const words = $("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const found = [...things.values()].filter((each) => {
    const text = `${each.title} ${each.kinds.join(" ")} ${each.year ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  redraw($("shelf"), found.slice(0, shown).map((each) => make("li", {},
    make("button", { class: "tile", type: "button", "data-key": each.item, "aria-pressed": String(opinion(each.item) === "like"), on: { click: () => like(each.item) } },
      cover(each, icon("heart")),
      make("span", {}, make("span", { class: "title", text: each.title }), make("span", { class: "meta", text: meta(each) }))))));
  $("shelf-empty").hidden = found.length > 0;
  $("more").hidden = found.length <= shown;
}

/** Labels of public features that a person without events may pick. The device keeps them as it keeps taps. */
async function drawQuestions() {
  $("ask").hidden = events.length > 0;
  if (events.length) return;
  const [asked, chosen] = await Promise.all([device.questionnaire(10), device.answers()]);
  const block = Object.keys(asked)[0];
  const picked = new Set(chosen[block] ?? []);
  $("ask").hidden = block === undefined;
  if (picked.size) $("list-note").textContent = "Ranked on this device by what you picked.";
  redraw($("ask-labels"), (asked[block] ?? []).map((label) => make("li", {}, make("button", {
    class: "label", type: "button", "data-key": label, text: label, "aria-pressed": String(picked.has(label)),
    on: { click: act(async () => {
      if (!picked.delete(label)) picked.add(label);
      await device.answer({ [block]: [...picked] });
      await refresh();
    }) },
  }))));
}

/** Fetch the events and the list, then the reasons of its places. */
async function refresh() {
  const mine = ++turn;
  if (!state.model) return;
  const [past, found] = await Promise.all([device.events(), device.recommend(PLACES)]);
  if (mine !== turn) return;
  events = past;
  list = found;
  reasons = new Map();
  $("list-note").textContent = events.length
    ? "Ranked on this device. It learned from your last tap already."
    : "Nothing is known of you yet. Tap a heart.";
  await drawQuestions();
  if (mine !== turn) return;
  drawTaps();
  drawShelf();
  if (found.every((each) => each.why === "popular") || !events.length) return drawList();
  const made = await Promise.all(found.map((each) => device.explain(each.item).catch(() => null)));
  if (mine !== turn) return;
  made.forEach((each) => each && reasons.set(each.item, each));
  drawList();
}

// ---- privacy

const COUNTS = { 2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six" };

const OUTCOMES = {
  released: "Your answer was in the sum",
  zero: "Only a zero was in the sum",
  void: "The round failed, and was paid for",
};

/** Causes of an answer without events, or of a zero, as the ledger names them. */
const CAUSES = {
  forgotten: "since you forgot",
  restored: "since an older copy of the events was restored",
  "new store": "since the events were lost",
  "no mark": "since the mark next to the events was lost",
  trust: "in a trust period",
  "no event": "since nothing that you did counts in this run",
  "opted out": "as you chose",
  exhausted: "since the budget is spent",
};

const when = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** What an answer was. @param {{outcome: string | null, why: string, since: number | null, until: number | null}} each */
function became(each) {
  if (each.outcome !== "empty" && each.outcome !== "zero") return OUTCOMES[each.outcome] ?? "Charged, and not answered yet";
  const what = each.outcome === "zero" ? OUTCOMES.zero : "An answer of a person without events";
  const cause = each.why === "" ? "" : `, ${CAUSES[each.why] ?? each.why}`;
  const period = each.since === null || each.until === null ? "" : ` on ${when(each.since)}; so are all until ${when(each.until)}`;
  return `${what}${cause}${period}`;
}

async function drawLedger() {
  const [left, spent] = await Promise.all([device.call("demo-left"), device.budget()]);
  const answers = left.answers;
  $("left-big").textContent = answers.length === 0 ? "Nothing" : answers.length === 1 ? "One answer" : `${COUNTS[answers.length] ?? answers.length} answers`;
  $("left-note").textContent = answers.length === 0
    ? "The ledger of this device has no charge. Taps, lists and reasons are made here, without any network."
    : "Each answer is masked, so that only the sum over all can be read, and carries noise. The lines are those of the ledger on this device.";
  $("ledger").replaceChildren(...answers.slice(0, 6).map((each) => make("li", { class: each.gave && each.outcome !== "empty" ? "" : "zero" },
    make("strong", {}, make("span", { text: `${each.algorithm}, round ${each.round}` }), make("span", { text: each.epsilon === null ? "" : `ε ${number(each.epsilon)}` })),
    make("span", { text: `${became(each)}, with ${number(each.users - 1)} other people, in trust model ${each.trust}` }),
    make("code", { text: `run ${each.run.slice(0, 8)} · ${new Date(each.time * 1000).toLocaleTimeString("en-GB")}` }))));
  $("spent").textContent = `ε ${number(spent.epsilon)}`;
  $("limit").textContent = `${number(spent.limit)} in ${number(spent.days)} days`;
  $("meter").firstElementChild.style.setProperty("--part", Math.min(100, spent.used * 100));
  $("meter").setAttribute("aria-valuemax", spent.limit);
  $("meter").setAttribute("aria-valuenow", spent.epsilon);
  $("meter").setAttribute("aria-valuetext", `epsilon ${number(spent.epsilon)} of ${number(spent.limit)}`);
  $("cost-note").textContent = spent.used > 0
    ? `${percent(Math.max(0, 1 - spent.used))} of the limit is left: small costs add up more slowly than their epsilons. At the limit this device answers with zeros alone.`
    : `A run may cost at most ε ${number(spent.run_limit)}, at δ ${spent.delta}. The device writes the price down before it answers.`;
  const period = spent.without_events;
  $("period-note").hidden = period === null;
  $("period-note").textContent = period === null ? "" : `Until ${when(period.until)} this device pays, and answers as a person without events, ${CAUSES[period.why] ?? period.why} on ${when(period.since)}. The server cannot see it.`;
}

const PHASES = {
  starting: "Starting a federation on this machine…",
  ready: "",
  round: "A round is under way",
  failed: "The federation stopped",
};

function drawState() {
  document.body.dataset.phase = state.phase;
  const others = `${state.hubs} hubs, ${number(state.people)} other people`;
  $("where-text").textContent = PHASES[state.phase] || `This device · ${others}`;
  $("round-note").textContent = `The other people are on ${state.hubs} hubs of this machine. Together you count what is liked, and nobody, the server included, sees the part of anyone.`;
  $("round").disabled = state.phase !== "ready";
  $("round").textContent = state.phase === "round" ? "Taking part…" : state.rounds ? "Take part again" : "Take part";
  $("round-fault").hidden = !state.fault;
  $("round-fault").textContent = state.fault ?? "";
  $("steps").replaceChildren(...state.steps.map((each, place) => {
    const now = place === state.steps.length - 1 && ["round", "starting"].includes(state.phase);
    return make("li", { class: now ? "now" : "" }, now ? make("span", { class: "spin", "aria-hidden": "true" }) : icon("tick"),
      make("span", { text: each.text }), make("span", { text: `${each.seconds.toFixed(1)} s` }));
  }));
  $("all").hidden = !state.popular.length;
  $("all-note").textContent = `The last round counted this over ${number(state.people + 1)} people, with noise that hides each of them.`;
  $("ranks").replaceChildren(...state.popular.map((each, place) => make("li", {}, make("span", { text: String(place + 1) }), make("span", { text: thing(each).title }))));
}

/** Follow what happens behind the page. */
async function follow() {
  for (;;) {
    const before = state;
    try {
      state = await device.call("demo-state");
    } catch (error) {
      if (error.code === "wrong_token") return gate();
      state = { ...before, phase: "failed", fault: "fedrec demo does not answer; start it again" };
    }
    drawState();
    if (state.model && !before.model) await act(refresh)();
    if (state.changes !== before.changes || state.phase === "round") await act(drawLedger)();
    await new Promise((done) => setTimeout(done, ["ready", "failed"].includes(state.phase) ? 1500 : 400));
  }
}

function gate() {
  sessionStorage.removeItem(KEY);
  $("main").hidden = true;
  $("gate").hidden = false;
}

/** Exchange the code of the link for the token, once. */
async function enter() {
  const code = location.hash.slice(1);
  if (code) {
    history.replaceState(null, "", location.pathname);
    const answer = await fetch("/v1/demo-enter", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }), cache: "no-store",
    });
    if (answer.ok) sessionStorage.setItem(KEY, (await answer.json()).token);
  }
  return sessionStorage.getItem(KEY);
}

$("find").addEventListener("input", () => { shown = SHELF; drawShelf(); });
$("more").addEventListener("click", () => { shown += 2 * SHELF; drawShelf(); });
$("undo").addEventListener("click", act(async () => { await device.undo(); await refresh(); }));
$("zeros").addEventListener("change", act(async () => {
  const out = $("zeros").checked ? await device.optOut() : await device.optIn();
  say(out ? "From now on this device answers with zeros" : "This device contributes again");
}));
$("round").addEventListener("click", act(async () => {
  $("round").disabled = true;
  state = await device.call("demo-round");
  drawState();
}));
$("forget").addEventListener("click", () => $("sure").showModal());
$("sure").addEventListener("close", act(async () => {
  if ($("sure").returnValue !== "yes") return;
  const gone = await device.forget({ everything: true });
  open = null;
  await refresh();
  await drawLedger();
  say(`${gone} ${gone === 1 ? "event" : "events"} erased. This device knows nothing of you.`);
}));
$("export").addEventListener("click", act(async () => {
  const lines = await device.exportMyData();
  const file = new Blob(lines.map((each) => `${JSON.stringify(each)}\n`), { type: "application/jsonl" });
  const link = make("a", { href: URL.createObjectURL(file), download: "my-data.jsonl" });
  link.click();
  URL.revokeObjectURL(link.href);
  say(`${lines.length} lines, in clear: keep the file safe`);
}));

const token = await enter();
if (!token) gate();
else {
  device = new Fedrec({ token });
  await act(async () => {
    const catalogue = await device.call("demo-items");
    things = new Map(catalogue.items.map((each) => [each.item, each]));
    genres = [...new Set(catalogue.items.flatMap((each) => each.kinds))].sort();
    $("main").hidden = false;
    $("zeros").checked = (await device.status()).opted_out;
    drawShelf();
    drawTaps();
    await drawLedger();
    follow();
  })();
}
