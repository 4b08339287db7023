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
  Python: (fields, url) => `import requests

with open("photo.jpg", "rb") as photo:
    answer = requests.post(
        ${JSON.stringify(url)},${takesKey() ? '\n        headers={"Authorization": f"Bearer {os.environ[\'STILLREEL_KEY\']}"},' : ""}
        files={"image": photo},
        data=${JSON.stringify(fields, null, 4).replaceAll("\n", "\n        ")},
        timeout=60,
    )
job = answer.json()
answer = requests.get(f"${url}/{job['id']}", params={"wait": 60}, timeout=90)
print(answer.json()["output"]["video"]["url"])`.replace(/^/, takesKey() ? "import os\n" : ""),
  JavaScript: (fields, url) => `const form = new FormData();
form.append("image", photo); // a File or Blob
for (const [name, value] of Object.entries(${JSON.stringify(fields, null, 2)})) {
  form.append(name, value);
}
const headers = ${takesKey() ? "{ Authorization: `Bearer ${key}` }" : "{}"};
const job = await (await fetch(${JSON.stringify(url)}, { method: "POST", headers, body: form })).json();
const done = await (await fetch(\`${url}/\${job.id}?wait=60\`, { headers })).json();
console.log(done.output.video.url);`,
};
