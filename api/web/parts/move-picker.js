import { html } from "../html.js";
import { setForm, state } from "../state.js";
import { language, t } from "../i18n.js";
import { MAX_MOVES, MOVES, SPEEDS, readPrompt, toggle, writePrompt } from "../moves.js";
import { path } from "../api.js";
import { frame, property, view } from "../form.js";
import { Choices } from "./control.js";
import { Camera } from "./media.js";

const THUMB_MORE = 1.7; // In an image of 80 pixels a true move could not be seen.

// The moves of the camera engine, each shown on the photo itself; the prompt says them in words.
export function MovePicker({ photo }) {
  const { moves, speed } = readPrompt(state.form.prompt);
  const write = (next, how) => setForm({ prompt: writePrompt(state.form.prompt, next, how, language) });
  const url = photo?.width ? photo.url : path("web/samples/coffee.jpg");
  const at = photo ? `${photo.x * 100}% ${photo.y * 100}%` : "50% 50%";
  return html`
    <fieldset class="control moves">
      <legend>${t("moves")} <span class="hint">${t("moves.how", { n: MAX_MOVES })}</span></legend>
      <div class=${`move-grid ${photo ? "" : "is-sample"}`}>
        ${MOVES.map(
          (name) => html`
            <button type="button" class="move" key=${name} aria-pressed=${moves.includes(name)} onClick=${() => write(toggle(moves, name), speed)}>
              <span class="thumb"><${Camera} url=${url} moves=${[name]} speed=${speed} more=${THUMB_MORE} aspect=${1.4} position=${at} /></span>
              <span class="move-name">${t(`move.${name}`)}</span>
            </button>`,
        )}
      </div>
    </fieldset>
    ${moves.length > 0 && !(moves.length === 1 && moves[0] === "still") &&
    html`<${Choices} name="speed" title=${t("strength")} value=${speed} options=${SPEEDS} say=${(each) => t(`speed.${each}`)} onChange=${(how) => write(moves, how)} />`}`;
}

// The photo under the chosen moves, as large as the stage: what a render will look like.
export function Preview({ photo, of }) {
  const { moves, speed } = readPrompt(state.form.prompt);
  const { aspect } = frame(photo, of);
  const asked = moves.length ? { moves, speed } : { moves: ["push_in"], speed: "slow" };
  const fit = state.form.values.fit || "crop";
  const { left, top, w, h } = view(photo, aspect);
  const [x, y] = (property(of, "focus") && photo.focus) || [left + w / 2, top + h / 2];
  const origin = `${((x - left) / w) * 100}% ${((y - top) / h) * 100}%`;
  return html`${fit === "blur" && html`<img class="behind" src=${photo.url} alt="" />`}<${Camera} url=${photo.url} ...${asked} origin=${origin} aspect=${aspect} alt=${t("photo.alt")} position=${`${photo.x * 100}% ${photo.y * 100}%`} fit=${fit === "crop" ? "cover" : "contain"} />`;
}
