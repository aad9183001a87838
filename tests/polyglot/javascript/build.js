// node build.js WIT-FOLDER COMPONENT.wasm: makes the component from word_count.js.

import { componentize } from "@bytecodealliance/componentize-js";
import { writeFile } from "node:fs/promises";

const [witPath, output] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath: new URL("word_count.js", import.meta.url).pathname,
  witPath,
  worldName: "task",
  // Without these the component would import wasi:http, which no operator granted.
  disableFeatures: ["http", "fetch-event"],
});
await writeFile(output, component);
