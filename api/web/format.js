// Times and sizes as the reader's language writes them.
import { number, region } from "./i18n.js";

export function when(iso) {
  const then = new Date(iso);
  const isToday = then.toDateString() === new Date().toDateString();
  const how = isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(region(), how).format(then);
}

export const day = (iso) => new Intl.DateTimeFormat(region(), { dateStyle: "medium" }).format(new Date(iso));

export const usd = (value) =>
  new Intl.NumberFormat(region(), { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol" }).format(value);

export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  for (; value >= 1000 && at < units.length - 1; at += 1) value /= 1000;
  return `${number(value, value < 10 && at ? 1 : 0)} ${units[at]}`;
}
