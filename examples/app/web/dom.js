// Everything that is shown goes through here as text, never as HTML.

// el returns an element with a class and with what is in it: elements, or values to be shown as text.
export function el(name, className = "", ...inside) {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.append(...inside.map(one => (one instanceof Node ? one : String(one))));
  return e;
}

// fill replaces what is in an element; with nothing to show it says so, if there are words for that.
export function fill(parent, children, none) {
  const what = children.length || !none ? children : [el(parent.matches("ul, ol") ? "li" : "p", "faint none", none)];
  parent.replaceChildren(...what);
}

export function seconds(n) {
  if (n < 60) return `${Math.round(n)} s`;
  return n < 3600 ? `${Math.floor(n / 60)} min ${Math.round(n % 60)} s` : `${Math.floor(n / 3600)} h ${Math.floor((n % 3600) / 60)} min`;
}

export function clock(at) {
  return new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}
