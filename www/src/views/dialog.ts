// The page's one dialog: asks for a name, or shows the keys.
import { byId, fill, h, type Child } from "../dom";

export interface Question {
  title: string;
  text: string;
  label: string;
  value: string;
  /** Values to choose from; others can be typed. */
  options?: string[];
  button: string;
}

/** Asks for one line; `undefined` if it was dismissed. */
export function ask({ title, text, label, value, options = [], button }: Question): Promise<string | undefined> {
  const input = h("input", { id: "dialog-input", value, required: true, list: "dialog-options", autocomplete: "off", spellcheck: "false" });
  let answer: string | undefined;
  const submit = (event: Event): void => {
    event.preventDefault();
    answer = input.value.trim();
    if (answer !== "") byId<HTMLDialogElement>("dialog").close();
  };
  const closed = show(
    title,
    h(
      "form",
      { submit },
      h("p", {}, text),
      h("label", { for: "dialog-input" }, label),
      input,
      h("datalist", { id: "dialog-options" }, options.map((option) => h("option", { value: option }))),
      h("div", { class: "buttons" }, cancel("Cancel"), h("button", { class: "primary" }, button)),
    ),
  );
  input.select();
  return closed.then(() => answer);
}

const KEYS: [keys: string, meaning: string][] = [
  ["Enter", "send the message"],
  ["Shift Enter", "new line"],
  ["Esc", "stop the answer, close what is open"],
  ["Alt M", "to the message box"],
  ["Alt N", "new chat"],
  ["Alt S", "show or hide the slots"],
  ["Alt H", "this list"],
];

/** Shows what the keys do. */
export function help(): void {
  const rows = KEYS.map(([keys, meaning]) =>
    h("div", {}, h("dt", {}, keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, meaning)),
  );
  void show("Keys", h("dl", { class: "keys" }, rows), h("div", { class: "buttons" }, cancel("Close")));
}

function cancel(label: string): HTMLElement {
  return h("button", { type: "button", click: () => byId<HTMLDialogElement>("dialog").close() }, label);
}

/** Opens it; the browser keeps the focus inside and gives it back afterwards. */
function show(title: string, ...content: Child[]): Promise<void> {
  const dialog = byId<HTMLDialogElement>("dialog");
  if (dialog.open) dialog.close();
  fill(dialog, h("h2", { id: "dialog-title" }, title), content);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(), { once: true }));
}
