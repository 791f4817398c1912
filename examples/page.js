// Shared by the example pages: an element by its id, text as text, and the state of the connection.
export const SERVER = "http://localhost:8080";

export const byId = (id) => document.getElementById(id);

/** Make an element. What comes from others is always text here, never HTML. */
export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

/** Show the state of the connection in the element `state`. */
export function showState({ state }) {
  byId("state").textContent = state;
  byId("state").dataset.state = state;
}
