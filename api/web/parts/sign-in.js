import { html, useEffect, useRef, useState } from "../html.js";
import * as api from "../api.js";
import { useStore } from "../state.js";
import { explained } from "../jobs.js";
import { t } from "../i18n.js";

export function SignIn() {
  const { signInError } = useStore();
  const [error, setError] = useState(null);
  const [isAsking, setAsking] = useState(false);
  const field = useRef(null);
  useEffect(() => field.current?.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    setAsking(true);
    try {
      await api.signIn(field.current.value);
      dispatchEvent(new Event("stillreel:signed-in"));
    } catch (refused) {
      setError(refused);
      setAsking(false);
      field.current.select();
    }
  };
  // "No key was sent" is why this page shows, and no fault of whoever reads it.
  const told = error || (signInError && signInError.code !== "missing_api_key" ? signInError : null);
  return html`
    <main class="sign-in">
      <form class="card" onSubmit=${submit}>
        <h1>${t("signIn.title")}</h1>
        <p>${t("signIn.why")}</p>
        <label for="key">${t("signIn.key")}</label>
        <input id="key" name="key" ref=${field} type="password" autocomplete="off" spellcheck="false" required
          placeholder="sr_…" aria-invalid=${told ? "true" : null} aria-describedby="key-help" />
        ${told && html`<p class="error" role="alert">${explained(told)}</p>`}
        <button class="primary" disabled=${isAsking}>${t("signIn.enter")}</button>
        <p id="key-help" class="hint">${t("signIn.cookie")} ${t("signIn.where")} <code>make key NAME=me</code></p>
      </form>
    </main>`;
}
