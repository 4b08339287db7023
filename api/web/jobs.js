// Jobs as the server has them: followed, made, canceled, deleted. The server owns the queue.
import * as api from "./api.js";
import { filterKey, isLive, liveJobs, set, state } from "./state.js";
import { isKnown, t } from "./i18n.js";

export const QUICK_MS = 350;
const USUAL_MS = 1000;
const IDLE_MS = 8000;
const FLOOR_MS = 10000; // While events come, what they may have missed.
const PAGE = 30;
const AT_ONCE = 8;

let timer = null;
let round = 0;
let isLooking = false;
let isAskedAgain = false;
let isListening = false;
let stopListening = null;
const heardEnds = new Set();

export function learn(jobs, { isNews = true } = {}) {
  const known = new Map(state.jobs);
  for (const job of jobs) {
    const before = known.get(job.id);
    if (job.deleted || job.status === "deleted") {
      known.delete(job.id);
      continue;
    }
    if (before && before.version > job.version) continue;
    // A listing does not say where a queued job stands.
    known.set(job.id, { ...job, queue: job.queue ?? (isLive(job) ? before?.queue : null) ?? null, seenAt: Date.now() });
    if (isNews && before && isLive(before) && !isLive(job)) tell(job);
  }
  set({ jobs: known });
}

function tell(job) {
  if (heardEnds.has(job.id)) return;
  heardEnds.add(job.id);
  const text = t(`ended.${job.status}`);
  set({ announcement: text });
  const may = window.isSecureContext && window.Notification?.permission === "granted";
  if (document.hidden && may && job.status !== "canceled") {
    new Notification("Stillreel", { body: `${text} ${job.input.prompt}`.trim(), tag: job.id });
  }
}

export function start() {
  for (const name of ["visibilitychange", "pageshow", "online", "focus"]) {
    addEventListener(name, () => {
      if (name === "online" || document.hidden) hush();
      if (!document.hidden) soon(0);
    });
  }
  soon(0);
}

// Ask again from the start: for another caller after a sign-in, or none after a sign-out.
export function restart() {
  set({ jobs: new Map(), cursors: {}, isListed: false, selected: null });
  hush();
  soon(0);
}

// Listen while somebody looks. A hidden page asks instead: a browser has only six lines to one
// address, and a line that slept may be dead without saying so.
function attend() {
  const isWanted = state.phase === "ready" && !document.hidden;
  if (!isWanted) return hush();
  stopListening ||= api.follow(
    (job) => learn([job]),
    (isOpen) => {
      isListening = isOpen;
      if (isOpen) round = 0; // What ended while nobody listened is in the lists.
      soon(0);
    },
  );
}

function hush() {
  stopListening?.();
  stopListening = null;
  isListening = false;
  round = 0;
}

export function soon(ms) {
  clearTimeout(timer);
  timer = setTimeout(look, ms);
}

async function look() {
  clearTimeout(timer);
  if (isLooking) return (isAskedAgain = true);
  isLooking = true;
  isAskedAgain = false;
  const next = await lookOnce();
  isLooking = false;
  return soon(isAskedAgain ? 0 : next);
}

async function lookOnce() {
  attend();
  if (state.phase !== "ready") return USUAL_MS;
  try {
    await readNews();
    if (!state.isOnline) set({ isOnline: true });
  } catch (error) {
    if (error.status === 401) return USUAL_MS;
    set({ isOnline: error.status !== 0 && error.status < 500 });
  }
  return pause();
}

function pause() {
  if (!state.isOnline) return 2000;
  const live = liveJobs();
  if (!live.length) return document.hidden ? 4 * IDLE_MS : IDLE_MS;
  if (isListening) return FLOOR_MS;
  const isNew = live.some((job) => Date.now() - Date.parse(job.created_at) < 6000);
  return document.hidden ? 3 * USUAL_MS : isNew ? QUICK_MS : USUAL_MS;
}

async function readNews() {
  const isFull = round % 8 === 0 || !liveJobs().length;
  round += 1;
  if (isFull) {
    const [newest, running, queued] = await Promise.all([
      api.listJobs({ limit: PAGE }),
      api.listJobs({ status: "running", limit: 100 }),
      api.listJobs({ status: "queued", limit: 100 }),
    ]);
    learn([...newest.data, ...running.data, ...queued.data]);
    await readEnded(running, queued);
    if (!state.isListed) {
      const cursor = { after: newest.last_id, hasMore: newest.has_more };
      set({ isListed: true, cursors: { ...state.cursors, [filterKey({ status: "", q: "" })]: cursor } });
    }
  }
  // Events tell of jobs alone: not of a pause, and not of a worker.
  if (isFull || isListening) await readQueue();
  // The first in line each time, and the rest in turns.
  const live = liveJobs();
  const first = live.slice(0, AT_ONCE / 2);
  const rest = live.slice(AT_ONCE / 2);
  const from = rest.length ? (round * (AT_ONCE / 2)) % rest.length : 0;
  const chosen = state.jobs.get(state.selected);
  const asked = new Set([...first, ...rest.slice(from, from + AT_ONCE / 2), ...(chosen && isLive(chosen) ? [chosen] : [])]);
  await Promise.all([...asked].map(readOne));
}

async function readQueue() {
  const queue = await api.readQueue();
  const models = isOtherModels(queue) ? await api.listModels() : state.models;
  set({ queue, models });
}

// A job that is known as live and listed as such no more has ended, however far down the history
// it is by now: one of hundreds that ended while the page slept.
async function readEnded(...lists) {
  if (lists.some((list) => list.has_more)) return; // Those that are left out may be further on.
  const listed = new Set(lists.flatMap((list) => list.data.map((job) => job.id)));
  const ended = liveJobs().filter((job) => !listed.has(job.id));
  for (let at = 0; at < ended.length; at += AT_ONCE) await Promise.all(ended.slice(at, at + AT_ONCE).map(readOne));
}

// A worker that came or went has changed what can be made.
function isOtherModels(queue) {
  const stands = (all) => all.map(({ id, model, workers }) => `${id ?? model} ${workers}`).sort().join();
  return stands(queue.data) !== stands(state.models);
}

async function readOne(job) {
  try {
    const news = await api.readJob(job.id, job.etag);
    if (news) learn([news]);
  } catch (error) {
    if (error.status !== 404) throw error;
    forget(job.id);
  }
}

export function forget(id) {
  const jobs = new Map(state.jobs);
  jobs.delete(id);
  set({ jobs, selected: state.selected === id ? null : state.selected });
}

// Read the next page of the history as it is filtered now.
export async function readMore() {
  const { filter } = state;
  const name = filterKey(filter);
  const cursor = state.cursors[name] || { after: null, hasMore: true };
  if (cursor.isLoading || !cursor.hasMore) return;
  const keep = (changes) => set({ cursors: { ...state.cursors, [name]: { ...cursor, ...changes } } });
  keep({ isLoading: true });
  try {
    const page = await api.listJobs({ limit: PAGE, after: cursor.after, ...filter });
    learn(page.data, { isNews: false });
    keep({ after: page.last_id ?? cursor.after, hasMore: page.has_more, isCut: page.is_cut, isLoading: false });
  } catch {
    keep({ isLoading: false });
  }
}

// Show a job, or the form for the next one; "back" leads to what was shown before.
export function select(id) {
  set({ selected: id, dialog: null });
  if (location.hash.slice(1) !== (id ?? "")) history.pushState(null, "", id ? `#${id}` : location.pathname);
  // On a phone they are one above the other.
  requestAnimationFrame(() => {
    const isForm = !id && matchMedia("(max-width: 56.25em)").matches;
    const at = document.querySelector(isForm ? ".make" : ".stage");
    const top = at?.getBoundingClientRect().top;
    if (top < 0 || top > Math.max(100, innerHeight * 0.15)) at.scrollIntoView({ block: "start" });
  });
}

// Show what the address names.
export async function showAsked() {
  const asked = location.hash.startsWith("#job_") ? location.hash.slice(1) : null;
  set({ selected: asked, dialog: null, view: location.pathname.endsWith("/admin") ? "admin" : "studio" });
  if (asked && !state.jobs.has(asked)) await api.readJob(asked).then((job) => learn([job]), () => set({ selected: null }));
}

// Return an error in words: ours where we know the way out, else the server's own.
export function explained(error) {
  const name = `error.${error.code}`;
  return isKnown(name) ? t(name, { n: error.retryAfter ?? 5 }) : error.message;
}
