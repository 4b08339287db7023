// The public API as the page uses it: one function a call.

const BASE = new URL("./", document.baseURI).href;
const PATIENCE_MS = 30000;
const UPLOAD_PATIENCE_MS = 900000;
const LISTEN_AGAIN_MS = 5000;

let whenRefused = () => {};

export class ApiError extends Error {
  constructor({ status = 0, code = "offline", detail = "", param = null, retryAfter = null }) {
    super(detail || code);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

export const path = (name) => new URL(name, BASE).href;
export const onRefusal = (callback) => (whenRefused = callback);

export async function send(method, name, { body, json, headers = {}, ...options } = {}) {
  const all = { ...headers };
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

// --- who is asking ---

// Begin a session: the key is sent this once and kept nowhere, and from here on a cookie speaks.
export const signIn = (key) =>
  send("POST", "v1/session", { headers: { Authorization: `Bearer ${key.trim()}` } });
export const signOut = () => send("DELETE", "v1/session").catch(() => {}); // It ends by itself too.
export const whoAmI = () => read("v1/session");

// --- models, jobs ---

export const listModels = async () => (await read("v1/models")).data;
export const readQueue = () => read("v1/queue");
export const listJobs = (pairs) => read(`v1/jobs?${query(pairs)}`);
export const cancelJob = async (id) => (await send("POST", `v1/jobs/${id}/cancel`)).json();
export const retryJob = async (id, json, idempotencyKey) =>
  (await send("POST", `v1/jobs/${id}/retry`, { json, headers: { "Idempotency-Key": idempotencyKey } })).json();
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
  if (image.jobId) {
    form.append("image[job_id]", image.jobId);
    form.append("image[frame]", image.frame);
  } else form.append("image", image.blob, image.name || "photo");
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null || value === "") continue;
    const isText = typeof value !== "object" || value instanceof Blob;
    form.append(name, isText ? value : JSON.stringify(value));
  }
  const headers = { "Idempotency-Key": idempotencyKey };
  return (await send("POST", "v1/jobs", { body: form, headers })).json();
}

// Queue all of them or none; an order is an image and its fields.
export async function createBatch(orders, idempotencyKey) {
  const form = new FormData();
  const items = orders.map(({ image, fields }, at) => {
    if (image.jobId) return { ...fields, image: { job_id: image.jobId, frame: image.frame } };
    form.append(`photo${at}`, image.blob, image.name || "photo");
    return { ...fields, image: { part: `photo${at}` } };
  });
  form.append("items", JSON.stringify(items));
  const headers = { "Idempotency-Key": idempotencyKey };
  return (await send("POST", "v1/batches", { body: form, headers })).json();
}

export const readBatch = (id) => read(`v1/batches/${id}`);
export const cancelBatch = (id) => send("POST", `v1/batches/${id}/cancel`);
export const batchZip = (id) => path(`v1/batches/${id}/content`);

export const estimate = (model, pairs) =>
  read(`v1/models/${encodeURIComponent(model)}/estimate?${query(pairs)}`);

// Follow every change; returns what ends it.
export function follow(onJob, onState) {
  let source = null;
  let waiting = 0;
  const hear = (event) => onJob(JSON.parse(event.data));
  const open = () => {
    source = new EventSource(path("v1/events"));
    source.addEventListener("message", (event) => event.data && hear(event));
    source.addEventListener("deleted", hear);
    source.onopen = () => onState(true);
    source.onerror = () => {
      // A lost line is taken up again by the browser, with Last-Event-ID; a refusal is not.
      if (source.readyState === EventSource.CLOSED) waiting = setTimeout(open, LISTEN_AGAIN_MS);
      onState(false);
    };
  };
  open();
  return () => {
    clearTimeout(waiting);
    source.close();
  };
}

// --- files ---

// Where a file of a job lies, always here: a link made for another address is cut to its path.
export function fileUrl(job, variant = "video") {
  const shown = variant === "preview" ? job.preview_url : job.output?.[variant]?.url;
  const link = shown || `/v1/jobs/${job.id}/content?variant=${variant}`;
  const { pathname, search } = new URL(link, BASE);
  const url = new URL(path(pathname.slice(pathname.indexOf("/v1/jobs/") + 1)) + search);
  url.searchParams.set("via", "gateway");
  return url.href;
}

export const fetchBlob = async (url) => (await send("GET", url)).blob();
