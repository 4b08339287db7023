import { html, useState } from "../html.js";
import { readsChinese } from "../form.js";
import { setForm, state } from "../state.js";
import { language, t } from "../i18n.js";
import { usesMoves } from "./composer.js";

const EXAMPLES = [1, 2, 3, 4];
const ENGLISH = [
  "hair and clothes move in a light wind", "clouds drift to the left, water ripples",
  "the camera pushes in slowly", "the subject turns and looks at the camera",
];
const HAN = /\p{Script=Han}/u;

export function Prompt({ of }) {
  const { prompt } = state.form;
  const most = of.parameters.properties.prompt.maxLength || 2000;
  const isCamera = usesMoves(of);
  const [isOpen, setOpen] = useState(false);
  if (!of.uses_prompt) return html`<p class="hint">${t("prompt.unused")}</p>`;
  return html`
    <div class="control prompt">
      <label for="prompt">${t(isCamera ? "prompt.camera" : "prompt")}</label>
      <textarea id="prompt" rows="3" maxlength=${most} value=${prompt} placeholder=${t(isCamera ? "prompt.cameraHint" : "prompt.hint")}
        onInput=${(event) => setForm({ prompt: event.target.value })} aria-describedby="prompt-help"></textarea>
      ${HAN.test(prompt) && !readsChinese(of) && html`<p class="hint warn">${t("prompt.english")}</p>`}
      ${!isCamera &&
      html`<div class="examples">
        ${EXAMPLES.map((n) => html`<button type="button" class="chip" onClick=${() => setForm({ prompt: readsChinese(of) ? t(`example.${n}`) : ENGLISH[n - 1] })}>${t(`example.${n}`)}</button>`)}
      </div>`}
      <details class="advice" id="prompt-help" open=${isOpen} onToggle=${(event) => setOpen(event.target.open)} lang=${language}>
        <summary>${t("advice")}</summary>
        <p class="hint">${t(isCamera ? "advice.camera" : "advice.model")}</p>
      </details>
    </div>`;
}
