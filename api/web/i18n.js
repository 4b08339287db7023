// The page's words: `t("key", {name: value})` in the language chosen, numbers and times too.

let words = {};
const STORE = "stillreel.language";
export const LANGUAGES = { en: "English", zh: "中文" };

const remembered = () => {
  try {
    return localStorage.getItem(STORE);
  } catch {
    return null; // Storage is closed to this page; the browser's language decides.
  }
};
const preferred = () => (navigator.languages || [navigator.language]).find((l) => /^(en|zh)/i.test(l));

const closest = (to) => (navigator.languages || [navigator.language]).find((l) => l.toLowerCase().startsWith(to)) || to;
export let language = LANGUAGES[remembered()] ? remembered() : (preferred() || "en").slice(0, 2).toLowerCase();

// Bring the words of a language; the page is drawn when they are there.
export async function speak(next = language) {
  words = { ...(await import(`./${next}.js`)).default };
  language = next;
  if (hasLater) await bring();
  document.documentElement.lang = next;
}

let hasLater = false;
let whenMore = () => {};
export const onWords = (callback) => (whenMore = callback);
const bring = async () => Object.assign(words, (await import(`./${language}-later.js`)).default);

// Bring the words that a cold page does not need.
export async function later() {
  if (hasLater) return;
  await bring();
  hasLater = true;
  whenMore();
}

export async function setLanguage(next) {
  await speak(next);
  try {
    localStorage.setItem(STORE, next);
  } catch {
    return; // It holds until the page is closed.
  }
}

export const isKnown = (name) => name in words;

export function t(name, values = {}) {
  return (words[name] ?? "").replace(/\{(\w+)\}/g, (_, part) => values[part] ?? "");
}

// A word for what the server names, such as a stage; what is not known is shown as it is.
export const term = (kind, name) => (isKnown(`${kind}.${name}`) ? t(`${kind}.${name}`) : plain(name));
const plain = (name) => String(name).replaceAll("_", " ");

export function seconds(value) {
  if (value == null) return "";
  if (value < 10) return t("time.s", { n: value < 1 ? "1" : Math.round(value) });
  if (value < 90) return t("time.s", { n: Math.round(value) });
  if (value < 5400) return t("time.min", { n: Math.round(value / 60) });
  return t("time.h", { n: number(value / 3600) });
}

// Dates and numbers as the reader's own country writes them.
export const region = () => closest(language);

export const number = (value, digits = 1) =>
  new Intl.NumberFormat(region(), { maximumFractionDigits: digits }).format(value);
