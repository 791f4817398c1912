// Dialogs: the browser's own, so that the focus stays inside, Escape closes it, and it returns where it was.

import { html, useEffect, useRef, useState } from "./preact.js";
import { Curl, Fault, Field } from "./parts.js";

export function Dialog({ title, onClose, children }) {
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog ref=${dialog} aria-label=${title} onClose=${onClose} onClick=${(event) => event.target === dialog.current && onClose()}>
    <div class="inside">
      <header><h2>${title}</h2><button type="button" class="quiet close" aria-label="Close" onClick=${onClose}>×</button></header>
      ${children}
    </div>
  </dialog>`;
}

/** Ask for the name of what is to be changed for good. `call` is the call that does it. */
export function Confirm({ title, name, noun, text, label, call, run, onClose }) {
  const [typed, type] = useState("");
  const [fault, fail] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    if (typed !== name) return;
    try {
      await run();
      onClose();
    } catch (error) {
      fail(error.message);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form onSubmit=${submit}>
      <p>${text}</p>
      <p>Type <code class="name">${name}</code> to confirm.</p>
      <${Field} label=${`Name of the ${noun}`} input=${(attributes) => html`<input ...${attributes} value=${typed} autocomplete="off" spellcheck="false" onInput=${(event) => type(event.target.value)} />`} />
      <${Fault}>${fault}<//>
      <footer><${Curl} ...${call} /><button type="button" class="quiet" onClick=${onClose}>Cancel</button>
        <button class="danger" disabled=${typed !== name}>${label}</button></footer>
    </form>
  <//>`;
}
