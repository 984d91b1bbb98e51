// The page: it takes a view of everything once a second, and events as they happen.
import { listen } from "./stream.js";
import { draw } from "./chart.js";
import { el, fill, seconds, clock } from "./dom.js";

const $ = id => document.getElementById(id);
let view = null; // the latest that is known
let streamed = 0; // events that came as they happened
const seen = new Map(); // by the ID of a workflow on the page, its number in the order in which they came
let arrived = 0;
let told = 0; // number of the last entry of the diary on the page

// Whether what the page shows is of now.
function link(text, kind) {
  $("link").textContent = text;
  $("link").className = "pill " + kind;
}

async function look() {
  try {
    const answer = await fetch("state.json", { signal: AbortSignal.timeout(3000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const next = await answer.json();
    if (view && next.started !== view.started) told = 0; // another process has taken the place of the one before
    keepNewer(next);
    view = next;
    show();
    link(`live, ${streamed} events`, "good");
  } catch {
    link("server away, trying again", "bad");
  }
}

// An event may have been quicker than the view that was on its way.
function keepNewer(next) {
  if (!view || next.started !== view.started) return;
  const known = new Map(view.workflows.map(w => [w.id, w]));
  next.workflows = next.workflows.map(w => (known.get(w.id)?.seq > w.seq ? known.get(w.id) : w));
}

// One event, as the server sends it to everybody who listens.
function happened(event) {
  const e = event.data;
  if (!view || !e || e.run !== view.run || !e.seq) return; // of another program, or another run
  streamed++;
  let card = view.workflows.find(w => w.id === e.workflow);
  if (!card || card.seq >= e.seq) return; // new ones come with the next view, which knows their steps
  const ended = e.type === "step done" || e.type === "completed";
  Object.assign(card, {
    seq: e.seq, status: e.status, worker: e.worker, changed: e.at, customer: e.customer || card.customer,
    done: e.step_index + (ended ? 1 : 0), attempt: ended ? 0 : e.attempt,
  });
  flows();
}

function show() {
  document.title = `${view.done} done · run ${view.run}`;
  $("run").textContent = view.run;
  $("process").textContent = view.process;
  $("up").textContent = seconds((Date.parse(view.now) - Date.parse(view.started)) / 1000);
  const ready = view.health?.status;
  $("ready").textContent = ready === "ok" ? "ready" : ready ? "not ready" : "…";
  $("ready").className = "pill " + (ready === "ok" ? "good" : "bad");
  tiles();
  draw($("chart"), view.seconds);
  const most = Math.max(0, ...view.seconds.map(s => s.events));
  $("rate").textContent = `${view.seconds.at(-1)?.events ?? 0} now, at most ${most} in two minutes, drawn to a square-root scale`;
  buttons();
  diary();
  flows();
  locks();
  processes();
  cache();
  health();
}

function tiles() {
  const of = view.total ? ` of ${view.total}` : "";
  const all = [
    [view.done + of, "done"],
    [view.running, view.lost ? `running, ${view.lost} lost` : "running"],
    [view.retries, "retried"],
    [view.takeovers, "taken over"],
    [view.refused, "refused"],
    [view.gaps, "gaps", view.gaps > 0],
  ];
  fill($("tiles"), all.map(([n, what, bad]) => el("div", "tile" + (bad ? " bad" : ""), el("b", "", n), el("span", "", what))));
}

function flows() {
  const ids = view.workflows.map(w => w.id).sort();
  for (const id of seen.keys()) if (!ids.includes(id)) seen.delete(id);
  for (const id of ids) if (!seen.has(id)) seen.set(id, arrived++);
  const newestFirst = view.workflows.slice(0, 18).sort((a, b) => seen.get(b.id) - seen.get(a.id)); // a row keeps its place
  fill($("flows"), newestFirst.map(w =>
    el("li", w.status === "done" ? "finished" : "",
      el("span", "name", w.id),
      el("span", "faint who", w.customer ? `${w.kind}, ${w.customer}` : w.kind),
      el("span", "steps", ...w.steps.map((name, i) => el("span", step(w, i), name))),
      el("span", "faint last", w.worker))), "none yet");
}

function step(w, i) {
  if (i < w.done) return "step done";
  if (i > w.done || w.status !== "running") return "step";
  return w.attempt ? "step again" : "step now";
}

function locks() {
  $("blind").hidden = !view.blind;
  fill($("locks"), view.locks.map(l => {
    const left = el("i");
    left.style.width = Math.min(100, (100 * l.ttl) / l.full) + "%";
    return el("li", view.blind ? "old" : "",
      el("span", "name", l.resource),
      el("span", "faint", l.owner ? `${l.owner}, token ${l.token}` : `free, last token ${l.token}`),
      el("span", "faint last", `${l.ttl.toFixed(1)} s` + (l.waiting ? `, queue ${l.waiting}` : "")),
      el("span", "ttl", left));
  }), "none just now");
}

function processes() {
  fill($("processes"), view.processes.map(p =>
    el("li", p.gone ? "old" : "",
      el("span", "name", p.name + (p.self ? " (this one)" : "")),
      el("span", "faint", `${p.busy} of ${p.workers} workers busy, ${p.done} done`),
      el("span", "last " + (p.gone ? "failing" : "ok"), p.gone ? `silent for ${seconds(p.silent)}` : "alive"))), "none heard yet");
}

function cache() {
  const r = view.rates, all = r.fresh + r.loaded + r.stale + r.none;
  const part = n => (all ? Math.round((100 * n) / all) : 0);
  fill($("share"), ["fresh", "loaded", "stale"].map(name => {
    const piece = el("i", name);
    piece.style.width = (all ? (100 * r[name]) / all : 0) + "%";
    return piece;
  }));
  for (const name of ["fresh", "loaded", "stale", "none"]) $(name).textContent = `${name} ${part(r[name])}%`;
  $("share").setAttribute("aria-label", `${part(r.fresh)}% fresh, ${part(r.loaded)}% loaded, ${part(r.stale)}% stale of ${all} requests`);
}

function health() {
  fill($("health"), (view.health?.checks ?? []).map(c =>
    el("li", "", el("span", "name", c.name), el("span", "last " + c.status, c.error || c.status))), "not known yet");
}

function diary() {
  if (!told) $("diary").replaceChildren();
  for (const e of view.diary.toReversed()) {
    if (e.n <= told) continue;
    told = e.n;
    const time = el("time", "", clock(e.at));
    time.dateTime = e.at;
    $("diary").prepend(el("li", e.tone, time, el("span", "", e.text)));
  }
  if (!told) fill($("diary"), [], "Nothing out of the ordinary yet.");
  else for (const li of $("diary").querySelectorAll(".none")) li.remove();
}

function buttons() {
  const names = view.buttons.map(b => b.name).join();
  $("why-not").textContent = view.why_not ?? "";
  $("why-not").hidden = !view.why_not;
  if ($("buttons").dataset.names === names) return; // or they would lose the focus
  $("buttons").dataset.names = names;
  fill($("buttons"), view.buttons.map(b => {
    const button = el("button", "", el("b", "", b.label), el("span", "", b.hint));
    button.type = "button";
    button.id = "break-" + b.name;
    button.addEventListener("click", () => press(b.name));
    return button;
  }));
}

async function press(name) {
  $("said").textContent = "";
  try {
    const answer = await fetch("break/" + encodeURIComponent(name), { method: "POST" });
    if (!answer.ok) throw new Error(answer.statusText);
    const { instead } = await answer.json();
    $("said").textContent = instead ? `Not now: ${instead}.` : "";
  } catch (problem) {
    $("said").textContent = `That did not work: ${problem.message}.`;
  }
  look();
}

listen("events", { message: happened, gap: look });
look();
setInterval(look, 1000);
