// What this browser remembers of its user. Without storage, as in a private window, it is forgotten with the page.

const PREFIX = "crawlwire.";

export function recall(name, otherwise = null) {
  try {
    return localStorage.getItem(PREFIX + name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    if (value === null || value === "") localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    // Nothing to be done, and nothing lost that matters.
  }
}
