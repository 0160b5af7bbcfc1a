/// <reference types="vitest/config" />
import { constants } from "node:zlib";

import vue from "@vitejs/plugin-vue";
import components from "unplugin-vue-components/vite";
import { ElementPlusResolver } from "unplugin-vue-components/resolvers";
import { defineConfig } from "vite";
import { compression, defineAlgorithm } from "vite-plugin-compression2";

// `npm run dev` asks a running gateway: CITYWATCH_URL, or the demo's usual address.
const gateway = process.env["CITYWATCH_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [
    vue(),
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
  },
  server: { proxy: { "/api": { target: gateway, changeOrigin: true } } },
  test: { include: ["src/**/*.test.ts"], environment: "happy-dom" },
});
