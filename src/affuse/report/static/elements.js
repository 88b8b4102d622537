// Elements and numbers as text. Text is only ever set as text, and styles through the CSSOM, as a strict policy demands.

/** @param {number} value */
export const percent = (value) => `${Math.round(100 * value)}\u00a0%`;

/**
 * @param {number} value
 * @param {number} digits
 */
export const signed = (value, digits) => (value < 0 ? "−" : value > 0 ? "+" : "") + Math.abs(value).toFixed(digits);

/** @param {string} text */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/**
 * The most probable label.
 * @param {Record<string, number>} probabilities
 */
export const topOf = (probabilities) => Object.keys(probabilities).reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a));

/**
 * The element of an id inside `root`, or null; of one kind where that is given.
 * @template {Element} [T=HTMLElement]
 * @param {ParentNode} root
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T | null}
 */
export function search(root, id, kind) {
  const found = root.querySelector(`#${id}`);
  if (found && kind && !(found instanceof kind)) throw new TypeError(`#${id} is no ${kind.name}`);
  return /** @type {T | null} */ (found);
}

/**
 * As `search`, for elements that are always there.
 * @template {Element} [T=HTMLElement]
 * @param {ParentNode} root
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T}
 */
export function find(root, id, kind) {
  const found = search(root, id, kind);
  if (!found) throw new TypeError(`there is no #${id}`);
  return found;
}

/**
 * An HTML element; children that are null are left out, attributes that are null or false as well.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string | boolean | null | Record<string, string>>} attributes
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && typeof value === "object") for (const [property, set] of Object.entries(value)) node.style.setProperty(property, set);
    else if (value !== false && value !== null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
