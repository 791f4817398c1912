// Runs the parts of the dashboard that need no page. Arguments: the folder of its modules. Each fault ends it with a message.

import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const load = (name) => import(`${pathToFileURL(process.argv[2])}/${name}`);
const { about, bytes, count, duration, milliseconds, moment, plural, words } = await load("formats.js");
const { jsonFault } = await load("json.js");

const table = (format, cases) => {
  for (const [given, expected] of cases) assert.equal(format(given), expected, `${format.name}(${given})`);
};

table(count, [[0, "0"], [12345, "12,345"], [1.6, "2"], [null, "–"], [undefined, "–"]]);
table(about, [[0, "0"], [0.04, "0"], [1.25, "1.3"], [9.96, "10"], [12.3, "12"], [9999, "9,999"], [12345, "12.3K"], [4_560_000, "4.56M"], [null, "–"]]);
table(bytes, [[0, "0 B"], [1023, "1023 B"], [1024, "1.0 KiB"], [10_240, "10 KiB"], [1_572_864, "1.5 MiB"], [2 ** 40 * 3000, "3000 TiB"], [null, "–"]]);
table(milliseconds, [[0.1234, "0.12 ms"], [9.999, "10 ms"], [12.6, "13 ms"], [999, "999 ms"], [1234, "1.2 s"], [null, "–"]]);
table(duration, [[0, "0 s"], [59.4, "59 s"], [60, "1 min"], [3599, "59 min"], [3600, "1 h 0 min"], [86_399, "23 h 59 min"], [273_600, "3 d 4 h"], [null, "–"]]);
table((number) => plural(number, "message"), [[0, "0 messages"], [1, "1 message"], [1200, "1,200 messages"]]);
table(words, [["slow_consumer", "slow consumer"], ["closed_by_the_client", "closed by the client"]]);
const now = new Date();
assert.match(moment(now.getTime() / 1000), /^\d\d:\d\d:\d\d$/);
assert.match(moment("2025-08-25T10:01:00Z"), /^2025-08-25 \d\d:01:00$/);

table(jsonFault, [
  ['{"a": [1, 2.5e3, -0, "\\u00e9\\n", true, false, null, {}, []]} ', undefined],
  ["", "The payload is empty. Write any JSON: an object, a list, text in quotes, a number, null."],
  ['{"a" 1}', "Line 1, column 6: expected :, found 1}"],
  ['{\n  "a": 1,\n}', "Line 3, column 1: expected a key in quotes, found }"],
  ["[1,]", "Line 1, column 4: expected a value, found ]"],
  ["[1}", "Line 1, column 3: expected a comma or the end, found }"],
  ["[", "Line 1, column 2: expected a value or ], the text ends"],
  ["{", "Line 1, column 2: expected a key in quotes or }, the text ends"],
  ["{a: 1}", "Line 1, column 2: expected a key in quotes or }, found a: 1}"],
  ["01", "Line 1, column 1: expected a value, found 01"],
  ["1 2", "Line 1, column 3: expected a comma or the end, found 2"],
  ['"a\tb"', 'Line 1, column 1: expected a value, found "a\tb"'],
  ["NaN", "Line 1, column 1: expected a value, found NaN"],
]);
