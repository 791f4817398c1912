// Preact with htm, which the page has loaded as they come from npm, as a module. Nothing else is made here.

const { h, render } = globalThis.preact;
const { useEffect, useRef, useState } = globalThis.preactHooks;

/** A template of HTML. Values in it are text, attributes or components: never HTML. */
const html = globalThis.htm.bind(h);

export { html, render, useEffect, useRef, useState };
