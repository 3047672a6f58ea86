// Requests to the server. What it refuses becomes a `Problem` with the words of its problem document.

import { clean } from "./format.js";

const BASE = "/api/v1";

export class Problem extends Error {
  constructor({ status = 0, code = "network", detail, errors = [] }) {
    super(detail || "The server could not be reached.");
    Object.assign(this, { status, code, errors });
  }

  // The address itself is not there: an older server than this page.
  get unavailable() {
    return (this.status === 404 && /no such page/i.test(this.message)) || this.status === 405 || this.status === 501;
  }
}

export async function request(method, path, { body, query, signal, headers } = {}) {
  const given = Object.entries(query ?? {}).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  const search = given.length > 0 ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
  const init = { method, signal, headers: { accept: "application/json", ...headers } };
  if (body !== undefined) {
    init.headers["content-type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch((path.startsWith("/") ? path : `${BASE}/${path}`) + search, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({});
  }
  const data = await response.json().catch(() => null);
  if (response.ok) return data;
  throw new Problem({
    status: response.status,
    code: clean(data?.code) || `http_${response.status}`,
    detail: clean(data?.detail) || `The server answered ${response.status}.`,
    errors: Array.isArray(data?.errors) ? data.errors : [],
  });
}

export const get = (path, options) => request("GET", path, options);
export const post = (path, body, options) => request("POST", path, { ...options, body });
export const put = (path, body, options) => request("PUT", path, { ...options, body });
export const remove = (path, body, options) => request("DELETE", path, { ...options, body });

// A part of a path that comes from somebody else.
export const part = (value) => encodeURIComponent(String(value));
