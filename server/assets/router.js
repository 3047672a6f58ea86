// Which view is shown, by the part of the address behind the #: `#/jobs?state=failed`, `#/jobs/ID`.

export function parse(hash) {
  const [path, search = ""] = hash.replace(/^#/, "").split("?");
  const parts = path
    .split("/")
    .filter(Boolean)
    .map((word) => {
      try {
        return decodeURIComponent(word);
      } catch {
        return word;
      }
    });
  return { name: parts[0] ?? "overview", id: parts[1] ?? null, query: new URLSearchParams(search) };
}

export function go(hash) {
  window.location.hash = hash;
}

// Changes the address without a step in the history, as while somebody types into a filter.
export function rewrite(hash) {
  window.history.replaceState(null, "", hash);
}

export class Views {
  constructor({ main, views, context, onShown }) {
    Object.assign(this, { main, views, context, onShown });
    this.shown = null;
    window.addEventListener("hashchange", () => this.show());
  }

  show() {
    const route = parse(window.location.hash);
    const view = this.views.get(route.id !== null ? `${route.name}/` : route.name) ?? this.views.get("nowhere");
    const first = this.shown === null;
    this.shown?.close?.();
    this.main.replaceChildren();
    window.scrollTo(0, 0);
    this.shown = view(this.main, { ...this.context, route });
    this.title(this.shown.title);
    this.onShown(route);
    // Who reads the page aloud, or tabs through it, begins at the new content.
    if (!first) this.main.focus({ preventScroll: true });
  }

  title(title) {
    document.title = title ? `${title} · Crawlwire` : "Crawlwire";
  }
}
