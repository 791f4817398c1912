// A check of JSON that says where the fault is: the messages of browsers differ, and some have no place.

const TOKEN = /[ \t\r\n]*(?:([{}[\],:])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[\da-fA-F]{4}))*")|(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)(?![\w.+-]))/y;
const EMPTY = "The payload is empty. Write any JSON: an object, a list, text in quotes, a number, null.";

/** For each state what may come: the state after it. `open` and `close` also change the level. */
const RULES = {
  value: { "{": "firstKey", "[": "firstItem", text: "end", scalar: "end" },
  firstItem: { "{": "firstKey", "[": "firstItem", text: "end", scalar: "end", "]": "end" },
  firstKey: { text: "colon", "}": "end" },
  key: { text: "colon" },
  colon: { ":": "value" },
  end: { ",": "more", "}": "end", "]": "end" },
};
const WANTED = {
  value: "a value", firstItem: "a value or ]", firstKey: "a key in quotes or }", key: "a key in quotes", colon: ":", end: "a comma or the end",
};

/** The index of the first character that is no JSON, with what was expected there; null for valid JSON. */
function findFault(text) {
  const levels = [];
  let state = "value";
  TOKEN.lastIndex = 0;
  for (;;) {
    const from = TOKEN.lastIndex;
    const start = from + /^[ \t\r\n]*/.exec(text.slice(from))[0].length;
    const fault = { index: start, wanted: WANTED[state] };
    if (start === text.length) return state === "end" && !levels.length ? null : fault;
    TOKEN.lastIndex = from;
    const [, sign, string] = TOKEN.exec(text) ?? [null, null, null];
    if (!TOKEN.lastIndex || TOKEN.lastIndex === from) return fault;
    let next = RULES[state][sign ?? (string ? "text" : "scalar")];
    if (!next || (state === "end" && (!levels.length || (sign !== "," && levels.at(-1) !== sign)))) return fault;
    if (sign === "{" || sign === "[") levels.push(sign === "{" ? "}" : "]");
    if (sign === "}" || sign === "]") levels.pop();
    if (next === "more") next = levels.at(-1) === "}" ? "key" : "value";
    state = next;
  }
}

/** A sentence that says what is wrong, and where; undefined for valid JSON. */
export function jsonFault(text) {
  try {
    JSON.parse(text);
  } catch (error) {
    if (!text.trim()) return EMPTY;
    const fault = findFault(text);
    if (!fault) return error.message;
    const before = text.slice(0, fault.index).split("\n");
    const found = fault.index === text.length ? "the text ends" : `found ${text.slice(fault.index, fault.index + 12).split("\n")[0]}`;
    return `Line ${before.length}, column ${before.at(-1).length + 1}: expected ${fault.wanted}, ${found}`;
  }
}
