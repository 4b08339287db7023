import { newId } from "./form.js";

// Keys of what was sent and not answered: when the same is sent again, the server knows by its key
// what it has taken already, and makes it once.
export function unanswered() {
  const keys = new Map();
  return {
    keyOf(sent) {
      const name = JSON.stringify(sent, (_, each) => (each instanceof Blob ? [each.name, each.size, each.lastModified] : each));
      if (!keys.has(name)) keys.set(name, newId());
      return keys.get(name);
    },
    // All of it has arrived: the same, sent once more, is meant to be made once more.
    forget: () => keys.clear(),
  };
}
