import { h, useEffect, useState } from "./html.js";
import { later } from "./i18n.js";

const RETRY_MS = 1000;

// A component whose file comes when it is first drawn.
export function lazy(load, name) {
  let found = null;
  return function Later(props) {
    const [Part, setPart] = useState(() => found);
    useEffect(() => {
      let isWanted = true;
      const ask = () =>
        Promise.all([load(), later()]).then(
          ([file]) => isWanted && setPart(() => (found = file[name])),
          () => isWanted && setTimeout(ask, RETRY_MS),
        );
      if (!found) ask();
      return () => (isWanted = false);
    }, []);
    return Part ? h(Part, props) : (props.meanwhile ?? null);
  };
}
