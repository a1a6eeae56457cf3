// Makes one part of the page what the server says it is now, by changing what differs and nothing else: what is focused,
// selected, ticked, open or in the middle of a movement stays so.

/** Attributes that only scripts and people set: an answer that lacks them says nothing about them. */
const ours = new Set(["style", "open", "data-picked"]);

export function morph(old: Element, next: Element): void {
  if (old.isEqualNode(next)) return;
  morphAttributes(old, next);
  morphChildren(old, next);
}

function morphAttributes(old: Element, next: Element): void {
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.attributes.length === next.attributes.length) return;
  for (const name of old.getAttributeNames()) {
    if (!ours.has(name) && !next.hasAttribute(name)) old.removeAttribute(name);
  }
}

/** Children with an id are found again by it, wherever they have gone; the others by their place. */
function morphChildren(old: Element, next: Element): void {
  const named = new Map<string, Element>();
  for (const child of old.children) {
    if (child.id) named.set(child.id, child);
  }
  let at = old.firstChild;
  for (let wanted = next.firstChild; wanted; wanted = wanted.nextSibling) {
    const id = wanted instanceof Element ? wanted.id : "";
    if (id) {
      const same = named.get(id);
      if (same && same.nodeName === wanted.nodeName) {
        named.delete(id);
        if (same === at) at = at.nextSibling;
        else old.insertBefore(same, at);
        morph(same, wanted as Element);
      } else {
        old.insertBefore(document.importNode(wanted, true), at);
      }
      continue;
    }
    // A child that has an id is not for one that has none.
    while (at instanceof Element && at.id) at = at.nextSibling;
    if (at?.nodeName !== wanted.nodeName) {
      old.insertBefore(document.importNode(wanted, true), at);
      continue;
    }
    const same = at;
    at = at.nextSibling;
    if (same instanceof Element) morph(same, wanted as Element);
    else if (same.nodeValue !== wanted.nodeValue) same.nodeValue = wanted.nodeValue;
  }
  while (at) {
    const rest = at;
    at = at.nextSibling;
    if (!(rest instanceof Element && rest.id)) rest.remove();
  }
  for (const gone of named.values()) gone.remove();
}
