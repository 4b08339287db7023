import { html } from "../html.js";
import { dismiss, useStore } from "../state.js";
import { Icon } from "./icon.js";
import { t } from "../i18n.js";

export function Toasts() {
  const { toasts, isDropping } = useStore();
  return html`
    <div class="toasts" role="status" aria-live="polite">
      ${toasts.map(
        ({ id, text, action, onAction, kind }) => html`
          <div class=${`toast ${kind}`} key=${id}>
            <span>${text}</span>
            ${action && html`<button type="button" class="link" onClick=${onAction}>${action}</button>`}
            <button type="button" class="icon" aria-label=${t("close")} onClick=${() => dismiss(id)}><${Icon} name="close" /></button>
          </div>`,
      )}
    </div>
    ${isDropping && html`<div class="dropping"><p>${t("photo.dropHere")}</p></div>`}`;
}
