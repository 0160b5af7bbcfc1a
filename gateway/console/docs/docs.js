// Shows /openapi.json for reading, without anything from elsewhere.
"use strict";

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter(Boolean));
  return element;
}

function shape(schema, all, depth = 0) {
  if (!schema) return "";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return depth ? name : shape(all[name], all, depth + 1);
  }
  if (schema.anyOf) return schema.anyOf.map((s) => shape(s, all, depth + 1)).join(" | ");
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[${shape(schema.items, all, depth + 1)}]`;
  if (schema.properties) {
    const required = new Set(schema.required || []);
    return "{ " + Object.entries(schema.properties).map(([n, s]) => `${n}${required.has(n) ? "" : "?"}: ${shape(s, all, depth + 1)}`).join(", ") + " }";
  }
  return schema.format || schema.type || "any";
}

fetch("/openapi.json").then((answer) => answer.json()).then((api) => {
  const all = api.components.schemas;
  const groups = new Map();
  for (const [path, verbs] of Object.entries(api.paths)) {
    for (const [verb, operation] of Object.entries(verbs)) {
      const tag = (operation.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      const parameters = (operation.parameters || []).filter((p) => p.in !== "path").map((p) => p.name + (p.required ? "" : "?")).join(" · ");
      const media = (operation.requestBody && operation.requestBody.content["application/json"]) || null;
      const answer = Object.entries(operation.responses).find(([code]) => code.startsWith("2"));
      const content = answer && answer[1].content && answer[1].content["application/json"];
      groups.get(tag).push(make("article", "card",
        make("div", "", make("span", "verb", verb.toUpperCase()), make("code", "", path)),
        make("div", "quiet", (operation.description || operation.summary || "").replaceAll("`", "")),
        parameters && make("div", "sub", make("code", "", "? " + parameters)),
        media && make("div", "sub", make("code", "", "→ " + shape(media.schema, all))),
        content && make("div", "sub", make("code", "", "← " + shape(content.schema, all))),
      ));
    }
  }
  const box = document.getElementById("docs");
  box.append(...api.info.description.split("\n\n").map((text) => make("p", "", text.replaceAll("`", ""))));
  for (const [tag, articles] of groups) box.append(make("section", "", make("h1", "", tag), ...articles));
});
