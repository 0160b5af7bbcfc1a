// The numbers of a rule as a form: limits, delays, deadband, on or off. A change is made in the text itself, so that its
// comments and everything the form does not know stay as they are.
import { isMap, isScalar, isSeq, parseDocument, type Document, type YAMLMap } from "yaml";

import type { Level } from "../api/types";

export type Path = readonly (string | number)[];

export interface Field {
  readonly path: Path;
  /** Key of the field's name in `ruleForm`. */
  readonly name: "above" | "below" | "on_delay" | "off_delay" | "deadband" | "enabled" | "for";
  readonly level: Level | null;
  readonly value: string | boolean;
}

/** The fields of the first rule of a text, in the order of the text; none when the text is not such a list. */
export function fieldsOf(text: string): Field[] {
  const root = ruleOf(parseDocument(text));
  if (root === null) return [];
  const fields: Field[] = [];
  walk(root.node, root.path, (path, key, value) => {
    if (typeof value === "boolean" && key === "enabled") fields.push({ path, name: "enabled", level: null, value });
    else if (key === "on_delay" || key === "off_delay" || key === "deadband" || key === "for") {
      if (value !== null && typeof value !== "object") fields.push({ path, name: key, level: null, value: String(value) });
    } else if ((key === "above" || key === "below") && value !== null && typeof value !== "object") {
      fields.push({ path, name: key, level: null, value: String(value) });
    } else if (key === "limit") {
      const side = path.includes("below") ? "below" : "above";
      if (value !== null && typeof value !== "object") fields.push({ path, name: side, level: levelBeside(root.document, path), value: String(value) });
    }
  });
  return fields;
}

/** The text with one field changed; what does not parse stays as it is. */
export function withField(text: string, path: Path, value: string | boolean): string {
  const document = parseDocument(text);
  if (document.errors.length > 0) return text;
  const before: unknown = document.getIn(path, true);
  const written = typeof value === "boolean" ? value : numberOr(value);
  if (isScalar(before)) before.value = written;
  else document.setIn(path, written);
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

function numberOr(value: string): string | number {
  const text = value.trim();
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

function ruleOf(document: Document): { document: Document; node: YAMLMap; path: Path } | null {
  const contents = document.contents;
  if (isMap(contents)) return { document, node: contents, path: [] };
  if (isSeq(contents) && isMap(contents.items[0])) return { document, node: contents.items[0], path: [0] };
  return null;
}

function levelBeside(document: Document, path: Path): Level | null {
  const found: unknown = document.getIn([...path.slice(0, -1), "level"]);
  return found === "I" || found === "II" || found === "III" || found === "IV" ? found : null;
}

function walk(node: unknown, path: Path, visit: (path: Path, key: string, value: unknown) => void): void {
  if (isMap(node)) {
    for (const pair of node.items) {
      const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
      const here = [...path, key];
      if (isScalar(pair.value)) visit(here, key, pair.value.value);
      else walk(pair.value, here, visit);
    }
  } else if (isSeq(node)) node.items.forEach((item, n) => walk(item, [...path, n], visit));
}
