// The part of Preact, with htm, that the page uses.

export { html, render, useEffect, useRef, useState } from "./standalone.module.js";
