import { html, useState } from "../html.js";
import { path } from "../api.js";
import { property } from "../form.js";
import { state } from "../state.js";
import { t } from "../i18n.js";
import { Dialog } from "./media.js";
import { copy } from "./viewer.js";

const takesKey = () => ["session", "header"].includes(state.who?.how);
const KINDS = ["curl", "Python", "JavaScript"];

// The call that makes this clip again, in three languages.
export function Code({ id, onClose }) {
  const [kind, setKind] = useState(KINDS[0]);
  const job = state.jobs.get(id);
  if (!job) return null;
  const text = WRITERS[kind](fieldsOf(job), path("v1/jobs"));
  return html`
    <${Dialog} title=${t("code")} onClose=${onClose} className="wide">
      <div class="segments" role="group" aria-label=${t("code")}>
        ${KINDS.map((each) => html`<button type="button" aria-pressed=${each === kind} onClick=${() => setKind(each)}>${each}</button>`)}
      </div>
      <pre tabindex="0"><code>${text}</code></pre>
      <p class="hint">${t("code.photo")} ${takesKey() && t("code.key")}</p>
      <button type="button" class="primary" onClick=${() => copy(text)}>${t("copy")}</button>
    <//>`;
}

function fieldsOf(job) {
  const of = state.models.find((each) => each.id === job.model);
  const { image_sha256, image_width, image_height, last_frame, keyframes, seconds, ...input } = job.input;
  const all = { model: job.model, ...input, seed: job.seed };
  if (all.resolution) delete all.width, delete all.height;
  const isSaid = ([name, value]) => value !== null && value !== "" && (name === "model" || !of || property(of, name) !== null);
  return Object.fromEntries(Object.entries(all).filter(isSaid).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)]));
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const bearer = "Authorization: Bearer $STILLREEL_KEY";

const WRITERS = {
  curl: (fields, url) => {
    // Not -F for words: there a leading @ or < would read a file.
    const words = Object.entries(fields).map(([name, value]) => `  --form-string ${quoted(`${name}=${value}`)}`);
    const head = takesKey() ? [`  -H "${bearer}"`] : [];
    return [`curl ${quoted(url)}`, ...head, "  -F image=@photo.jpg", ...words].join(" \\\n");
  },
  Python: (fields, url) => `${takesKey() ? "import os\n\n" : ""}import requests

JOBS = ${JSON.stringify(url)}
HEADERS = ${takesKey() ? '{"Authorization": f"Bearer {os.environ[\'STILLREEL_KEY\']}"}' : "{}"}

with open("photo.jpg", "rb") as photo:
    answer = requests.post(
        JOBS,
        headers=HEADERS,
        files={"image": photo},
        data=${JSON.stringify(fields, null, 4).replaceAll("\n", "\n        ")},
        timeout=60,
    )
answer.raise_for_status()
job = answer.json()
while job["status"] in ("queued", "running"):
    job = requests.get(f"{JOBS}/{job['id']}", headers=HEADERS, params={"wait": 60}, timeout=90).json()
print(job["output"]["video"]["url"] if job["output"] else job["error"])`,
  JavaScript: (fields, url) => `// node clip.mjs
import { readFile } from "node:fs/promises";

const JOBS = ${JSON.stringify(url)};
const headers = ${takesKey() ? "{ Authorization: `Bearer ${process.env.STILLREEL_KEY}` }" : "{}"};
const read = async (answer) => (answer.ok ? answer.json() : Promise.reject(await answer.text()));

const form = new FormData();
form.append("image", new Blob([await readFile("photo.jpg")]), "photo.jpg");
for (const [name, value] of Object.entries(${JSON.stringify(fields, null, 2)})) {
  form.append(name, value);
}
let job = await read(await fetch(JOBS, { method: "POST", headers, body: form }));
while (["queued", "running"].includes(job.status)) {
  job = await read(await fetch(\`\${JOBS}/\${job.id}?wait=60\`, { headers }));
}
console.log(job.output ? job.output.video.url : job.error);`,
};
