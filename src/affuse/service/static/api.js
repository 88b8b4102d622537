// Requests to the service: with the token, which is asked for when the service wants one, and errors as sentences.

import { say } from "./language.js";
import { find } from "./report/elements.js";

const KEPT = "affuse.token";

/** What went wrong; `status` is 0 where the service could not be reached. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   * @param {string | null} retryAfter
   */
  constructor(status, detail = "", retryAfter = null) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * The error as a sentence for people.
 * @param {unknown} error
 */
export function sentence(error) {
  if (!(error instanceof ApiError)) throw error;
  const detail = error.message;  // it may begin with the name of a file, so that it stays as it is
  if (error.status === 0) return say("error.gone");
  if (error.status === 401) return say("token.none");
  if (error.status === 413) return say("error.large", { detail });
  if (error.status === 429) return say("error.busy", { seconds: error.retryAfter ?? 60 });
  return error.status >= 500 || !detail ? say("error.unknown", { status: error.status, detail }) : detail;
}

export const token = () => sessionStorage.getItem(KEPT);

/** @returns {Record<string, string>} */
const authorisation = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

/** @type {Promise<boolean> | null} */
let asking = null;

/** Ask for the token, once for all who want it at the same time. */
function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = find(document, "token", HTMLDialogElement);
    const field = find(document, "token-value", HTMLInputElement);
    const entry = find(document, "token-form", HTMLFormElement);
    field.value = "";
    dialog.returnValue = "";
    find(document, "token-cancel").onclick = () => dialog.close("");
    entry.onsubmit = (event) => {
      event.preventDefault();
      if (field.value.trim()) dialog.close(field.value.trim());
    };
    dialog.onclose = () => {
      asking = null;
      if (dialog.returnValue) sessionStorage.setItem(KEPT, dialog.returnValue);
      entry.reset();
      resolve(Boolean(dialog.returnValue));
    };
    dialog.showModal();
  });
  return asking;
}

/**
 * Try until the token is right or nobody gives one.
 * @template T
 * @param {() => Promise<T>} attempt
 */
async function withToken(attempt) {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401 || !(await askForToken())) throw error;
    }
  }
}

/** @param {string} text */
const detailOf = (text) => {
  try {
    const { detail } = JSON.parse(text);
    return typeof detail === "string" ? detail : "";
  } catch {
    return "";
  }
};

/**
 * A response of the service. Throws ApiError for anything but success.
 * @param {string} path
 * @param {RequestInit & { headers?: Record<string, string> }} options
 */
export const request = (path, options = {}) => withToken(async () => {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...authorisation(), ...options.headers } });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
  if (!response.ok) throw new ApiError(response.status, detailOf(await response.text()), response.headers.get("Retry-After"));
  return response;
});

/** @param {string} path */
export const getJson = async (path) => (await request(path)).json();

/**
 * Send a form and tell its progress (0…1); fetch cannot tell that. `signal` ends it.
 * @param {string} path
 * @param {FormData} form
 * @param {(share: number) => void} onProgress
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export const sendForm = (path, form, onProgress, signal) => withToken(() => new Promise((resolve, reject) => {
  const sending = new XMLHttpRequest();
  sending.open("POST", path);
  for (const [name, value] of Object.entries(authorisation())) sending.setRequestHeader(name, value);
  sending.upload.onprogress = (event) => { if (event.lengthComputable) onProgress(event.loaded / event.total); };
  sending.onerror = () => reject(new ApiError(0));
  sending.onabort = () => reject(new DOMException("ended", "AbortError"));
  sending.onload = () => {
    if (sending.status >= 200 && sending.status < 300) resolve(JSON.parse(sending.responseText));
    else reject(new ApiError(sending.status, detailOf(sending.responseText), sending.getResponseHeader("Retry-After")));
  };
  signal?.addEventListener("abort", () => sending.abort());
  sending.send(form);
}));

/**
 * Save a blob under a name.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
