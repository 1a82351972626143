// The choice of what is drawn, in a form, as the control "label": each class by its number, or any of them.

export const ANY = "any";
const MOST_IN_SIGHT = 20; // more are a list

export function offerClasses(host, names) {
  const options = [...[...names.entries()].map(([label, name]) => [String(label), name]), [ANY, ANY]];
  if (options.length <= MOST_IN_SIGHT) {
    host.append(...options.map(([value, name]) => picked(value, name)));
    return;
  }
  const list = Object.assign(document.createElement("select"), { name: "label" });
  list.setAttribute("aria-label", "Class");
  list.append(...options.map(([value, name]) => new Option(name, value)));
  host.append(list);
}

function picked(value, name) {
  const label = document.createElement("label");
  label.append(Object.assign(document.createElement("input"), { type: "radio", name: "label", value }), name);
  return label;
}
