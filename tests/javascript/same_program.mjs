// Compares scripts by their syntax trees: standard input has a list of { name, source, served }; the names of those that differ are printed.
// Arguments: the folder of the package typescript, and the file of Preact with htm.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [typescript, preact] = process.argv.slice(2);
const ts = createRequire(import.meta.url)(typescript);
const { html } = await import(pathToFileURL(preact).href);

const DECLARED = ts.NodeFlags.Let | ts.NodeFlags.Const;

/** What Preact gets from a template, with names in place of its expressions. */
function elementOf(template) {
  const parts = template.templateSpans ? [template.head, ...template.templateSpans.map(({ literal }) => literal)] : [template];
  const strings = parts.map(({ text }) => text);
  const element = html(strings, ...strings.slice(1).map((_, number) => `expression ${number}`));
  return JSON.stringify(element, (name, value) => (name === "__v" ? undefined : value)); // a number of its own
}

/** Constants that are declared together or one after the other are the same. */
const isPlainDeclaration = (node) => ts.isVariableStatement(node) && !node.modifiers && node.declarationList.flags & ts.NodeFlags.Const;

function shapeOf(node) {
  if (ts.isTaggedTemplateExpression(node) && node.tag.text === "html") {
    const expressions = (node.template.templateSpans ?? []).map(({ expression }) => shapeOf(expression));
    return ["html", elementOf(node.template), expressions];
  }
  const children = [];
  ts.forEachChild(node, (child) => void children.push(...(isPlainDeclaration(child) ? child.declarationList.declarations.map(shapeOf) : [shapeOf(child)])));
  return [node.kind, node.operator, node.flags & DECLARED, node.text !== undefined && !children.length ? node.text : "", children];
}

function treeOf(text) {
  const file = ts.createSourceFile("script.js", text, ts.ScriptTarget.Latest);
  if (file.parseDiagnostics.length) return [file.parseDiagnostics[0].messageText];
  return shapeOf(file);
}

for (const { name, source, served } of JSON.parse(readFileSync(0, "utf8"))) {
  if (JSON.stringify(treeOf(source)) !== JSON.stringify(treeOf(served))) console.log(name);
}
