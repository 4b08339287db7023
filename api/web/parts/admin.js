// For admins: workers, queue, failures, storage, keys, webhook deliveries. On a phone each row of a
// table is a block of its own; the roles keep it a table for whoever hears the page.
import { html, useEffect, useState } from "../html.js";
import { read, readQueue, send } from "../api.js";
import { explained } from "../jobs.js";
import { toast, useStore } from "../state.js";
import { bytes, when } from "../format.js";
import { number, seconds, t } from "../i18n.js";
import { copy } from "./viewer.js";

const EVERY_MS = 5000;

const admin = {
  workers: async () => (await read("v1/admin/workers")).data,
  failures: async () => (await read("v1/admin/failures?limit=20")).data,
  storage: () => read("v1/admin/storage"),
  pauses: async () => (await read("v1/admin/pauses")).data,
  pause: (json) => send("POST", "v1/admin/pause", { json }),
  resume: (json) => send("POST", "v1/admin/resume", { json }),
  keys: async () => (await read("v1/keys")).data,
  createKey: async (json) => (await send("POST", "v1/keys", { json })).json(),
  rotateKey: async (id) => (await send("POST", `v1/keys/${id}/rotate`)).json(),
  revokeKey: (id) => send("DELETE", `v1/keys/${id}`),
  endpoints: async () => (await read("v1/webhook_endpoints")).data,
  deliveries: async (id) => (await read(`v1/webhook_endpoints/${id}/deliveries?limit=20`)).data,
  replay: async (id) => (await send("POST", `v1/webhook_deliveries/${id}/replay`)).json(),
};

export function Admin() {
  const isAllowed = useStore().who?.is_admin;
  return html`
    <main class="admin">
      <h1>${t("nav.admin")}</h1>
      ${!isAllowed && html`<div class="card"><h2>${t("admin.only")}</h2><p>${t("admin.make")}</p><code>make key NAME=admin ADMIN=1</code></div>`}
      ${isAllowed &&
        html`<${Workers} /><${Line} /><${Failures} /><${Keys} /><${Storage} /><${Webhooks} />`}
    </main>`;
}

function useRead(read, { every = EVERY_MS } = {}) {
  const [told, setTold] = useState({});
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let isWanted = true;
    read().then((data) => isWanted && setTold({ data }), (error) => isWanted && setTold({ error }));
    const waiting = every ? setTimeout(() => !document.hidden && setTurn((n) => n + 1), every) : 0;
    return () => {
      isWanted = false;
      clearTimeout(waiting);
    };
  }, [turn]);
  return [told, () => setTurn((n) => n + 1)];
}

function Part({ title, told, heads, rows, none, children }) {
  return html`
    <section class="card">
      <h2>${title}</h2>${children}
      ${told.error && html`<p class="error">${explained(told.error)}</p>`}
      ${rows && !rows.length && html`<p class="hint">${none}</p>`}
      ${rows?.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label=${title}><table role="table">
        <thead role="rowgroup"><tr role="row">${heads.map((head) => html`<th role="columnheader" scope="col">${head}</th>`)}</tr></thead>
        <tbody role="rowgroup">${rows.map((row) => html`<tr role="row">${row.map((cell, at) => html`<td role="cell" data-head=${heads[at]}><span>${cell}</span></td>`)}</tr>`)}</tbody>
      </table></div>`}
    </section>`;
}

function Workers() {
  const [told] = useRead(admin.workers);
  const rows = told.data?.map((worker) => [
    html`<i class=${`dot ${worker.is_alive ? "" : "bad"}`}></i> ${worker.name}`,
    worker.device_name || worker.device,
    worker.vram_bytes ? bytes(worker.vram_bytes) : "–",
    worker.engines.join(", "),
    worker.is_alive ? worker.state : t("admin.gone", { time: when(worker.beat_at) }),
    worker.running.length || "–",
  ]);
  return html`<${Part} title=${t("admin.workers")} told=${told} rows=${rows} none=${t("workers.none")}
    heads=${["name", "device", "memory", "models", "state", "running"].map((name) => t(`head.${name}`))} />`;
}

// The queue, and the brake: of one model, or of all.
function Line() {
  const [told, again] = useRead(async () => ({ line: await readQueue(), pauses: await admin.pauses() }));
  const { line, pauses = [] } = told.data || {};
  const whole = pauses.find((pause) => pause.model === null);
  const rows = line?.data.map((each) => [
    each.model,
    each.is_paused ? t("queue.paused") : t("admin.goes"),
    whole ? "" : html`<${Brake} model=${each.model} isOn=${each.is_paused} again=${again} />`,
    each.queued, each.running, each.workers, seconds(each.render_seconds) || "–", seconds(each.wait_seconds) || "–",
  ]);
  return html`<${Part} title=${t("queue")} told=${told} rows=${rows} none=${t("queue.idle")}
    heads=${["model", "state", "do", "queued", "running", "workers", "render", "wait"].map((name) => t(`head.${name}`))}>
    ${line && html`<div class="row"><p class=${`hint ${whole ? "warn" : ""}`}>${whole ? t("admin.pausedSince", { time: when(whole.since) }) : t("admin.pauseHow")}</p><span class="grow"></span>
      <${Brake} isOn=${Boolean(whole)} again=${again} /></div>`}
  <//>`;
}

function Brake({ model, isOn, again }) {
  const asked = model ? { model } : {};
  const press = tried(() => (isOn ? admin.resume(asked) : admin.pause(asked)), again);
  const words = t(`admin.${isOn ? "resume" : "pause"}${model ? "" : "All"}`);
  return html`<button type="button" class=${model ? "link" : ""} onClick=${press}>${words}</button>`;
}

function Failures() {
  const [told] = useRead(admin.failures);
  const rows = told.data?.map((failure) => [when(failure.finished_at), failure.owner || t("admin.house"), failure.model, html`<code>${failure.code}</code>`, failure.message, failure.attempt]);
  return html`<${Part} title=${t("admin.failures")} told=${told} rows=${rows} none=${t("admin.noFailures")}
    heads=${["when", "owner", "model", "code", "message", "attempt"].map((name) => t(`head.${name}`))} />`;
}

function Storage() {
  const [told] = useRead(admin.storage, { every: 0 });
  const rows = told.data?.data.map((stored) => [stored.owner || t("admin.house"), number(stored.jobs), number(stored.files), bytes(stored.bytes), stored.first_expires_at ? when(stored.first_expires_at) : "–"]);
  return html`<${Part} title=${`${t("admin.storage")}${told.data ? ` · ${told.data.is_partial ? "≥ " : ""}${bytes(told.data.bytes)}` : ""}`} told=${told} rows=${rows} none=${t("library.none")}
    heads=${["owner", "jobs", "files", "size", "expires"].map((name) => t(`head.${name}`))}>
    ${told.data?.free_bytes != null && html`<p class="hint">${t("admin.free", { size: bytes(told.data.free_bytes) })}</p>`}
  <//>`;
}

const tried = (work, after) => async () => {
  try {
    after(await work());
  } catch (error) {
    toast(explained(error), { kind: "bad" });
  }
};

function Keys() {
  const [told, again] = useRead(admin.keys, { every: 0 });
  const [fresh, setFresh] = useState(null);
  const made = (key) => (setFresh(key), again());
  const create = (event) => {
    event.preventDefault();
    const form = event.target;
    const asked = { name: form.name.value.trim(), ...(form.admin.checked ? { is_admin: true } : {}) };
    tried(() => admin.createKey(asked), (key) => (form.reset(), made(key)))();
  };
  const rows = told.data?.map((key) => [
    key.name,
    html`<code>${key.prefix || key.id}</code>`,
    key.is_admin ? t("admin.isAdmin") : "",
    key.last_used_at ? when(key.last_used_at) : "–",
    key.revoked_at ? t("admin.revoked") : html`
      <button type="button" class="link" onClick=${tried(() => admin.rotateKey(key.id), made)}>${t("admin.rotate")}</button>
      <button type="button" class="link bad" onClick=${() => confirm(t("admin.sure", key)) && tried(() => admin.revokeKey(key.id), again)()}>${t("admin.revoke")}</button>`,
  ]);
  return html`
    <${Part} title=${t("admin.keys")} told=${told} rows=${rows} none=${t("admin.noKeys")} heads=${["name", "key", "rights", "used", "do"].map((name) => t(`head.${name}`))}>
      ${fresh?.key && html`<div class="fresh" role="status"><p>${t("admin.once")}</p><code>${fresh.key}</code><button type="button" onClick=${() => copy(fresh.key)}>${t("copy")}</button><button type="button" class="quiet" onClick=${() => setFresh(null)}>${t("close")}</button></div>`}
      <form class="row" onSubmit=${create}>
        <label for="key-name">${t("admin.newKey")}</label><input id="key-name" name="name" required maxlength="100" />
        <label class="switch"><input type="checkbox" name="admin" role="switch" /><span>${t("admin.isAdmin")}</span></label>
        <button>${t("admin.create")}</button>
      </form>
    <//>`;
}

function Webhooks() {
  const [told] = useRead(admin.endpoints, { every: 0 });
  const endpoints = [{ id: "default", url: t("admin.ownUrls") }, ...(told.data || [])];
  return endpoints.map((endpoint) => html`<${Deliveries} key=${endpoint.id} endpoint=${endpoint} />`);
}

function Deliveries({ endpoint }) {
  const [told, again] = useRead(() => admin.deliveries(endpoint.id));
  const rows = told.data?.map((sent) => [
    when(sent.created_at), sent.event_type || sent.type,
    html`<span class=${`state ${sent.status}`}>${sent.status}</span>`,
    sent.attempts?.length ?? "–",
    sent.attempts?.at(-1)?.error || sent.attempts?.at(-1)?.status_code || "–",
    sent.status === "pending" ? "" : html`<button type="button" class="link" onClick=${tried(() => admin.replay(sent.id), again)}>${t("admin.replay")}</button>`,
  ]);
  return html`<${Part} title=${`${t("admin.deliveries")} · ${endpoint.url}`} told=${told} rows=${rows} none=${t("admin.noDeliveries")}
    heads=${["when", "event", "state", "tries", "answer", "do"].map((name) => t(`head.${name}`))} />`;
}
