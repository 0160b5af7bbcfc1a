/// <reference types="vitest/config" />
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { constants } from "node:zlib";

import vue from "@vitejs/plugin-vue";
import components from "unplugin-vue-components/vite";
import { ElementPlusResolver } from "unplugin-vue-components/resolvers";
import { build, defineConfig, type Plugin, type Rolldown } from "vite";
import { compression, defineAlgorithm } from "vite-plugin-compression2";

// `npm run dev` asks a running gateway: CITYWATCH_URL, or the demo's usual address.
const gateway = process.env["CITYWATCH_URL"] ?? "http://127.0.0.1:8080";

const CREW = "crew/index.html";
const BESIDE = ["favicon.svg", "crew/manifest.webmanifest", "crew/icon-192.png", "crew/icon-512.png"]; // in public/

/** The crew page's service worker, after everything else, as it names every file that the page needs. */
function crewOffline(): Plugin {
  return {
    name: "citywatch-crew-offline",
    apply: "build",
    async writeBundle(options, bundle) {
      const folder = options.dir!;
      const entry = Object.values(bundle).find((one): one is Rolldown.OutputChunk => one.type === "chunk" && one.facadeModuleId?.endsWith(CREW) === true);
      if (entry === undefined) this.error(`${CREW} was not built`);
      const shell = [CREW, ...BESIDE].map((name) => ({ url: `/${name}`, revision: digest(join(folder, name)) as string | null }));
      for (const file of needed(entry, bundle)) shell.push({ url: `/${file}`, revision: null }); // its digest is in its name
      await build({
        configFile: false,
        publicDir: false,
        logLevel: "warn",
        define: { SHELL: JSON.stringify(shell), "process.env.NODE_ENV": '"production"' },
        build: {
          target: "es2022", outDir: folder, emptyOutDir: false,
          rolldownOptions: { input: "src/crew/sw.ts", output: { format: "iife", entryFileNames: "sw.js" } },
        },
      });
    },
  };
}

/** A chunk, what it imports at once, and their styles. */
function needed(entry: Rolldown.OutputChunk, bundle: Rolldown.OutputBundle): Set<string> {
  const files = new Set<string>();
  const add = (name: string): void => {
    if (files.has(name)) return;
    files.add(name);
    const chunk = bundle[name];
    if (chunk?.type !== "chunk") return;
    chunk.viteMetadata?.importedCss.forEach((css) => files.add(css));
    chunk.imports.forEach(add);
  };
  add(entry.fileName);
  return files;
}

function digest(file: string): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex").slice(0, 16);
}

export default defineConfig({
  plugins: [
    vue(),
    crewOffline(),
    // Element Plus by the piece: a component and its style are there only where a page uses them.
    components({ dts: "components.d.ts", dirs: [], resolvers: [ElementPlusResolver({ importStyle: "css" })] }),
    // The gateway sends these as they are; it never compresses a page itself.
    compression({
      include: /\.(html|js|css|svg|json|wasm|mjs)$/,
      threshold: 1024,
      algorithms: [
        defineAlgorithm("gzip", { level: 9 }),
        defineAlgorithm("brotliCompress", { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }),
      ],
    }),
  ],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the content security policy allows no data: URL but for pictures
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1200, // maplibre and echarts, each loaded by its own page only
    reportCompressedSize: false,
    rolldownOptions: { input: ["index.html", CREW] },
  },
  server: { proxy: { "/api": { target: gateway, changeOrigin: true } } },
  test: { include: ["src/**/*.test.ts"], environment: "happy-dom" },
});
