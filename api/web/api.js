// The public API as the page uses it: one function a call, and what this server can do.

const BASE = new URL("./", document.baseURI).href;
const PATIENCE_MS = 30000;
const UPLOAD_PATIENCE_MS = 300000;

// In this variable only, and in no storage: a reload forgets it. A session cookie replaces it
// where the server has sessions.
let key = null;
let whenRefused = () => {};

export class ApiError extends Error {
  constructor({ status = 0, code = "offline", detail = "", param = null, retryAfter = null }) {
    super(detail || code);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

export const path = (name) => new URL(name, BASE).href;
export const holdsKey = () => key !== null;
export const onRefusal = (callback) => (whenRefused = callback);

export async function send(method, name, { body, json, headers = {}, ...options } = {}) {
  const all = { ...headers };
  if (key) all.Authorization = `Bearer ${key}`;
  if (json !== undefined) all["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path(name), {
      method,
      headers: all,
      body: json === undefined ? body : JSON.stringify(json),
      signal: AbortSignal.timeout(body ? UPLOAD_PATIENCE_MS : PATIENCE_MS),
      ...options,
    });
  } catch (error) {
    throw new ApiError({ code: error.name === "TimeoutError" ? "no_answer" : "offline" });
  }
  if (answer.ok || answer.status === 304) return answer;
  const error = await problem(answer);
  if (answer.status === 401) whenRefused(error);
  throw error;
}

async function problem(answer) {
  const told = await answer.json().catch(() => ({}));
  return new ApiError({
    status: answer.status,
    code: told.code || `http_${answer.status}`,
    detail: told.detail || answer.statusText,
    param: told.errors?.[0]?.param || told.error?.param || told.param || null,
    retryAfter: Number(answer.headers.get("Retry-After")) || null,
  });
}

export const read = async (name, options) => (await send("GET", name, options)).json();
const query = (pairs) =>
  new URLSearchParams(Object.entries(pairs).filter(([, value]) => value !== "" && value != null));

// --- what this server can do: read off its own description, so that an older one works too ---

export const can = {
  events: false, session: false, estimate: null, batches: false, retry: false, search: false,
  via: false, frames: false, pause: false,
};

export async function discover() {
  const { paths = {}, components } = await read("openapi.json");
  const names = (route, method) => (paths[route]?.[method]?.parameters || []).map((p) => p.name);
  const estimate = Object.keys(paths).find((route) => /^\/v1\/models\/\{\w+\}\/estimate$/.test(route));
  Object.assign(can, {
    events: "/v1/events" in paths,
    session: "/v1/session" in paths,
    estimate: estimate ? names(estimate, "get") : null,
    batches: "/v1/batches" in paths,
    retry: "/v1/jobs/{job_id}/retry" in paths,
    search: names("/v1/jobs", "get").includes("q"),
    via: names("/v1/jobs/{job_id}/content", "get").includes("via"),
    frames: /"frame"/.test(JSON.stringify([paths["/v1/jobs"]?.post, components?.schemas?.ImageFrame])),
  });
  return can;
}

// --- who is asking ---

export async function signIn(text) {
  key = text.trim();
  try {
    await listJobs({ limit: 1 });
    if (can.session) {
      await send("POST", "v1/session", { json: {} });
      key = null; // From here on the cookie speaks.
    }
  } catch (error) {
    key = null;
    throw error;
  }
}

export async function signOut() {
  if (can.session) await send("DELETE", "v1/session").catch(() => {});
  key = null;
}

// --- models, jobs ---

export const listModels = async () => (await read("v1/models")).data;
export const readQueue = () => read("v1/queue");
export const listJobs = (pairs) => read(`v1/jobs?${query(pairs)}`);
export const cancelJob = async (id) => (await send("POST", `v1/jobs/${id}/cancel`)).json();
export const retryJob = async (id) => (await send("POST", `v1/jobs/${id}/retry`)).json();
export const deleteJob = (id, options) => send("DELETE", `v1/jobs/${id}`, options);

// Return the job, or null where it is as the version known.
export async function readJob(id, etag) {
  const headers = etag ? { "If-None-Match": etag } : {};
  const answer = await send("GET", `v1/jobs/${id}`, { headers, cache: "no-store" });
  if (answer.status === 304) return null;
  return { ...(await answer.json()), etag: answer.headers.get("ETag") };
}

// A key of its own makes sending again harmless: the same one gives the same job.
export async function createJob(fields, image, idempotencyKey) {
  const form = new FormData();
  if (image.jobId) form.append("image", JSON.stringify({ job_id: image.jobId, frame: image.frame }));
  else form.append("image", image.blob, image.name || "photo");
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null || value === "") continue;
    const isText = typeof value !== "object" || value instanceof Blob;
    form.append(name, isText ? value : JSON.stringify(value));
  }
  const headers = { "Idempotency-Key": idempotencyKey };
  return (await send("POST", "v1/jobs", { body: form, headers })).json();
}

export async function estimate(model, fields) {
  if (!can.estimate) return null;
  const known = Object.entries(fields).filter(([name]) => can.estimate.includes(name));
  return read(`v1/models/${encodeURIComponent(model)}/estimate?${query(Object.fromEntries(known))}`);
}

export const batchZip = (batchId) => path(`v1/batches/${batchId}/content`);

// Follow every change; returns what ends it, or null where only asking again and again is left.
export function follow(onJob, onState) {
  if (!can.events || key || !window.EventSource) return null;
  const source = new EventSource(path("v1/events"));
  const hear = (event) => {
    try {
      const told = JSON.parse(event.data);
      if (told?.id) onJob(told);
    } catch {
      onState(false);
    }
  };
  for (const name of ["message", "job", "deleted"]) source.addEventListener(name, hear);
  source.onopen = () => onState(true);
  source.onerror = () => onState(false); // The browser comes back by itself, with Last-Event-ID.
  return () => source.close();
}

// --- files ---

// Where a file of a job lies, always here: a link made for another address is cut to its path.
export function fileUrl(job, variant = "video") {
  const link = job.output?.[variant]?.url || `/v1/jobs/${job.id}/content?variant=${variant}`;
  const { pathname, search } = new URL(link, BASE);
  const url = new URL(path(pathname.slice(pathname.indexOf("/v1/jobs/") + 1)) + search);
  if (can.via) url.searchParams.set("via", "gateway");
  return url.href;
}

const blobs = new Map();

// An address that <img> and <video> can load: they send no key, so its holder's come as blobs.
export function mediaUrl(url) {
  if (!key) return Promise.resolve(url);
  if (!blobs.has(url)) {
    const made = send("GET", url).then(async (answer) => URL.createObjectURL(await answer.blob()));
    made.catch(() => blobs.delete(url));
    blobs.set(url, made);
  }
  return blobs.get(url);
}

export const fetchBlob = async (url) => (await send("GET", url)).blob();
