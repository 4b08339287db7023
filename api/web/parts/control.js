// One setting, drawn from its JSON Schema: a number, a choice, a switch, a colour, an image, words.
import { html, useRef } from "../html.js";
import { isKnown, number, t } from "../i18n.js";

export const label = (name, schema = {}) =>
  isKnown(`field.${name}`) ? t(`field.${name}`) : schema.title || name.replaceAll("_", " ");
const choice = (name) => (isKnown(`choice.${name}`) ? t(`choice.${name}`) : String(name));

const isPicture = ({ contentMediaType, oneOf }) => contentMediaType?.startsWith("image/") || oneOf?.some(({ format }) => format === "data-uri");
const isNumber = (schema) => schema.type === "number" || schema.type === "integer";

export function Control({ name, schema, value, onChange, show = number }) {
  const id = `field-${name}`;
  const title = label(name, schema);
  const help = isKnown(`help.${name}`) ? t(`help.${name}`) : null;
  const shared = { id, name, schema, value, onChange, title, show };
  if (schema.enum) return html`<${Choices} ...${shared} options=${schema.enum} />`;
  const Kind = isNumber(schema) ? Amount : schema.type === "boolean" ? Switch : isPicture(schema) ? Slot : schema.format === "color" ? Colour : Words;
  return html`<div class="control"><${Kind} ...${shared} />${help && html`<p class="hint">${help}</p>`}</div>`;
}

export function Choices({ name, title, value, onChange, options, say = choice }) {
  return html`
    <fieldset class="control choices">
      <legend>${title}</legend>
      <div class="segments">
        ${options.map(
          (option) => html`
            <label key=${option} class=${option === value ? "is-on" : ""}>
              <input type="radio" name=${name} value=${option} checked=${option === value} onChange=${() => onChange(option)} />
              <span>${say(option)}</span>
            </label>`,
        )}
      </div>
    </fieldset>`;
}

function Amount({ id, schema, value, onChange, title, show }) {
  const { minimum, maximum, multipleOf } = schema;
  const step = multipleOf || (schema.type === "integer" ? 1 : "any");
  const given = value ?? minimum ?? 0;
  const isRanged = minimum !== undefined && maximum !== undefined && maximum - minimum <= 10000;
  const hear = (event) => {
    const next = event.target.valueAsNumber;
    if (Number.isFinite(next)) onChange(schema.type === "integer" ? Math.round(next) : next);
  };
  return html`
    <label for=${id}><span>${title}</span>${isRanged && html`<output for=${id}>${show(given)}</output>`}</label>
    <input id=${id} type=${isRanged ? "range" : "number"} min=${minimum} max=${maximum}
      step=${isRanged && step === "any" ? (maximum - minimum) / 100 : step} value=${given} onInput=${hear}
      aria-valuetext=${isRanged ? show(given) : null} style=${isRanged ? { "--part": (given - minimum) / (maximum - minimum) } : null} />`;
}

const Switch = ({ id, value, onChange, title }) => html`
  <label class="switch" for=${id}>
    <input id=${id} type="checkbox" role="switch" checked=${Boolean(value)} onChange=${(e) => onChange(e.target.checked)} />
    <span>${title}</span>
  </label>`;

const Colour = ({ id, value, onChange, title }) => html`
  <label for=${id}>${title}</label>
  <input id=${id} type="color" value=${value || "#000000"} onInput=${(event) => onChange(event.target.value)} />`;

const Words = ({ id, schema, value, onChange, title }) => html`
  <label for=${id}>${title}</label>
  <textarea id=${id} rows="2" maxlength=${schema.maxLength} value=${value || ""} onInput=${(event) => onChange(event.target.value)}></textarea>`;

function Slot({ id, value, onChange, title }) {
  const field = useRef(null);
  return html`
    <label for=${id}>${title}</label>
    <input id=${id} ref=${field} type="file" accept="image/*" onChange=${(event) => onChange(event.target.files[0] || undefined)} />
    ${value && html`<span class="hint">${value.name}</span> <button type="button" class="link" onClick=${() => ((field.current.value = ""), onChange(undefined))}>${t("photo.remove")}</button>`}`;
}
