// The sign-in, for a server with API keys. The key is sent to this server alone, and forgotten with the tab.

import { html, useState } from "./preact.js";
import { call, signIn } from "./server.js";
import { Field } from "./parts.js";

export function SignIn({ onSignedIn }) {
  const [key, type] = useState("");
  const [fault, fail] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    signIn(key.trim());
    try {
      await call("GET", "admin/overview");
      onSignedIn();
    } catch (error) {
      fail(error.status === 403 ? "This token may not see the server: it needs admin." : error.message);
    }
  };
  return html`<main id="main" class="alone"><form class="card" onSubmit=${submit}>
    <h1>Sign in</h1>
    <p>This server asks for an API key, or for a token with admin. It is kept in this tab only.</p>
    <${Field} label="API key or token" fault=${fault} input=${(attributes) => html`<input ...${attributes} type="password" autocomplete="off" required value=${key} onInput=${(event) => type(event.target.value)} />`} />
    <footer><button class="primary">Sign in</button></footer>
  </form></main>`;
}
