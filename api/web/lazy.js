import { h, useEffect, useState } from "./html.js";
import { path } from "./api.js";
import { later } from "./i18n.js";

const RETRY_MS = 1000;

let dressed = null;

// Bring the styles of what a cold page does not show.
export function dress() {
  dressed ||= new Promise((done, failed) => {
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: path("web/later.css"), onload: done });
    link.onerror = () => {
      link.remove();
      failed((dressed = null));
    };
    document.head.append(link);
  });
  return dressed;
}

// A component whose file comes when it is first drawn.
export function lazy(load, name) {
  let found = null;
  return function Later(props) {
    const [Part, setPart] = useState(() => found);
    useEffect(() => {
      let isWanted = true;
      const ask = () =>
        Promise.all([load(), later(), dress()]).then(
          ([file]) => isWanted && setPart(() => (found = file[name])),
          () => isWanted && setTimeout(ask, RETRY_MS),
        );
      if (!found) ask();
      return () => (isWanted = false);
    }, []);
    return Part ? h(Part, props) : (props.meanwhile ?? null);
  };
}
