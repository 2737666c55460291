// Writes src/api/schema.ts: the API's shapes as TypeScript, from docs/openapi.json. Made before each build.
import { readFileSync, writeFileSync } from "node:fs";

const source = new URL("../../docs/openapi.json", import.meta.url);
const target = new URL("../src/api/schema.ts", import.meta.url);
const { schemas } = JSON.parse(readFileSync(source, "utf8")).components;

/** The TypeScript type of a JSON schema. */
function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return [...new Set(options.map(typeOf))].join(" | ");
  switch (schema.type) {
    case "string":
      return "string";
    case "number":
    case "integer":
      return "number";
    case "boolean":
      return "boolean";
    case "null":
      return "null";
    case "array":
      return schema.items ? `(${typeOf(schema.items)})[]` : "unknown[]";
    case "object":
      if (schema.properties) return `{\n${fields(schema, "    ")}  }`;
      return schema.additionalProperties && schema.additionalProperties !== true
        ? `Record<string, ${typeOf(schema.additionalProperties)}>`
        : "Record<string, unknown>";
    default:
      return "unknown";
  }
}

function fields(schema, indent) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties)
    .map(([name, field]) => `${indent}${JSON.stringify(name)}${required.has(name) ? "" : "?"}: ${typeOf(field)};\n`)
    .join("");
}

const parts = Object.entries(schemas)
  .filter(([, schema]) => schema.type === "object" && schema.properties)
  .map(([name, schema]) => {
    const about = schema.description ? `/** ${schema.description.split("\n")[0]} */\n` : "";
    return `${about}export interface ${name} {\n${fields(schema, "  ")}}\n`;
  });
writeFileSync(target, `// Made from docs/openapi.json by scripts/types.mjs; do not edit.\n\n${parts.join("\n")}`);
