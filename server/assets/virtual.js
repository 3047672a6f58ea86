// A list of any length of which only the rows in sight exist. It scrolls with the page; all rows are of one height.

const OVERSCAN = 8;

export class VirtualList {
  // `create()` gives a row with an `element`; `write(row, id, index)` fills it. Items are ids.
  constructor({ container, create, write, onEnd }) {
    Object.assign(this, { container, create, write, onEnd });
    this.items = [];
    this.places = new Map();
    this.rows = new Map();
    this.height = 0;
    this.look = () => this.place();
    window.addEventListener("scroll", this.look, { passive: true });
    window.addEventListener("resize", this.look);
  }

  close() {
    window.removeEventListener("scroll", this.look);
    window.removeEventListener("resize", this.look);
  }

  // Another list. What is in sight stays in sight when rows come or go above it.
  set(items) {
    const anchor = this.anchor();
    this.items = items;
    this.places = new Map(items.map((id, index) => [id, index]));
    this.measure();
    this.container.style.blockSize = `${items.length * this.height}px`;
    if (anchor) {
      const index = this.places.get(anchor.id);
      if (index !== undefined && index !== anchor.index) window.scrollBy(0, (index - anchor.index) * this.height);
    }
    this.place(true);
  }

  measure() {
    this.height = parseFloat(getComputedStyle(this.container).getPropertyValue("--row-height")) || 60;
  }

  anchor() {
    const above = -this.container.getBoundingClientRect().top;
    if (above <= this.height || this.height === 0) return null;
    const index = Math.floor(above / this.height);
    return index < this.items.length ? { id: this.items[index], index } : null;
  }

  place(rewrite = false) {
    const before = this.height;
    this.measure();
    if (before !== this.height) this.container.style.blockSize = `${this.items.length * this.height}px`;
    const top = this.container.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / this.height) - OVERSCAN);
    const last = Math.min(this.items.length, Math.ceil((window.innerHeight - top) / this.height) + OVERSCAN);
    const wanted = new Set(this.items.slice(first, last));
    const held = document.activeElement?.closest?.("[data-row]")?.dataset.row;
    if (held !== undefined && this.places.has(held)) wanted.add(held);
    // Rows that go out of sight become those that come into it. After a jump they all do, and none is moved in the document.
    const spare = [];
    for (const [id, row] of this.rows) {
      if (wanted.has(id)) continue;
      this.rows.delete(id);
      spare.push(row);
    }
    spare.sort((a, b) => a.index - b.index);
    const written = [...wanted].filter((id) => this.show(id, spare, rewrite || before !== this.height));
    for (const row of spare) row.element.remove();
    for (const id of written) this.arrange(this.rows.get(id).element);
    if (last >= this.items.length) this.onEnd?.();
  }

  // Whether the row of this id was written.
  show(id, spare, rewrite) {
    const index = this.places.get(id);
    let row = this.rows.get(id);
    const fresh = row === undefined;
    if (!fresh && !rewrite && row.index === index) return false;
    if (fresh) {
      row = spare.shift() ?? this.create();
      // The focus belongs to a job, not to its place.
      if (row.element.contains(document.activeElement)) document.activeElement.blur();
      row.element.dataset.row = id;
      this.rows.set(id, row);
    }
    row.index = index;
    row.element.style.transform = `translateY(${index * this.height}px)`;
    row.element.setAttribute("aria-rowindex", String(index + 2));
    this.write(row, id, index);
    return true;
  }

  // In the order of the list, for those who read or tab through the document.
  arrange(element) {
    const place = (other) => this.places.get(other.dataset.row) ?? -1;
    const index = place(element);
    const { previousElementSibling: previous, nextElementSibling: next } = element;
    const stands = element.isConnected && (!previous || place(previous) < index) && (!next || place(next) > index);
    if (stands) return;
    let after = this.container.lastElementChild;
    while (after && (after === element || place(after) > index)) after = after.previousElementSibling;
    const at = after ? after.nextElementSibling : this.container.firstElementChild;
    if (at !== element) this.container.insertBefore(element, at);
  }

  // Writes those of the ids that are in sight.
  refresh(ids) {
    for (const [id, row] of this.rows) if (ids.has(id)) this.write(row, id, row.index);
  }

  // Brings a row into sight; the row.
  reach(index) {
    const top = this.container.getBoundingClientRect().top + window.scrollY + index * this.height;
    const sticky = 140;
    if (top - sticky < window.scrollY) window.scrollTo(0, Math.max(0, top - sticky));
    else if (top + this.height * 2 > window.scrollY + window.innerHeight)
      window.scrollTo(0, top + this.height * 2 - window.innerHeight);
    this.place();
    return this.rows.get(this.items[index]);
  }
}
