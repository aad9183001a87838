#!/usr/bin/env node
// waymark-build SOURCE WIT-FOLDER COMPONENT.wasm: makes a component from a job type in JavaScript or TypeScript.

import { componentize } from "@bytecodealliance/componentize-js";
import { build } from "esbuild";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const [source, witPath, output] = process.argv.slice(2);
if (output === undefined) {
  console.error("usage: waymark-build SOURCE WIT-FOLDER COMPONENT.wasm");
  process.exit(2);
}
const sdk = fileURLToPath(new URL("index.js", import.meta.url));
const entry = `
  import * as host from "waymark:task/job@0.1.0";
  import { setHost } from ${JSON.stringify(sdk)};
  setHost(host);
  export { lifecycle } from ${JSON.stringify(resolve(source))};
`;
const folder = await mkdtemp(join(tmpdir(), "waymark-build-"));
try {
  const sourcePath = join(folder, "job.js");
  await build({
    stdin: { contents: entry, resolveDir: process.cwd() },
    alias: { waymark: sdk },
    bundle: true,
    format: "esm",
    target: "es2022",
    // What the host gives is imported as it is.
    external: ["waymark:*", "wasi:*"],
    outfile: sourcePath,
    logLevel: "error",
  });
  const { component } = await componentize({
    sourcePath,
    witPath: resolve(witPath),
    worldName: "task",
    // Without these the component would import wasi:http, which no operator granted.
    disableFeatures: ["http", "fetch-event"],
  });
  await writeFile(output, component);
} finally {
  await rm(folder, { recursive: true });
}
