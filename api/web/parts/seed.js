import { html } from "../html.js";
import { randomSeed } from "../form.js";
import { setForm, state } from "../state.js";
import { t } from "../i18n.js";

const MOST = 2 ** 32 - 1;

// Unlocked, the server draws a seed for each clip and says which; locked, it is this one.
export function Seed() {
  const { seed } = state.form;
  const isLocked = seed !== null;
  const hear = (event) => {
    const next = event.target.valueAsNumber;
    setForm({ seed: Number.isInteger(next) && next >= 0 && next <= MOST ? next : null });
  };
  return html`
    <div class="control">
      <label for="seed">${t("field.seed")}</label>
      <div class="seed">
        <input id="seed" type="number" min="0" max=${MOST} step="1" inputmode="numeric" value=${seed ?? ""} placeholder=${t("seed.drawn")} onInput=${hear} aria-describedby="seed-help" />
        <button type="button" class="quiet" aria-pressed=${isLocked} onClick=${() => setForm({ seed: isLocked ? null : randomSeed() })}>${isLocked ? t("seed.unlock") : t("seed.lock")}</button>
        <button type="button" class="quiet" onClick=${() => setForm({ seed: randomSeed() })}>${t("seed.dice")}</button>
      </div>
      <p class="hint" id="seed-help">${t("help.seed")}</p>
    </div>`;
}
