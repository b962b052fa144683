import { defineConfig, type Plugin } from "vite";

/** The noise suppressor's worklet ends in a reference to a source map that is not shipped. */
const dropSourceMapReferences: Plugin = {
  name: "drop-source-map-references",
  generateBundle(_options, bundle) {
    for (const file of Object.values(bundle)) {
      if (file.type !== "asset" || !file.fileName.endsWith(".js")) continue;
      const text = typeof file.source === "string" ? file.source : new TextDecoder().decode(file.source);
      file.source = text.replace(/\n?\/\/# sourceMappingURL=\S+\s*$/, "\n");
    }
  },
};

const server = process.env["HUBBUB"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [dropSourceMapReferences],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    sourcemap: false,
    // Every asset is a file of its own: a policy of `default-src 'self'` needs no data: exception.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  worker: { format: "es" },
  server: {
    port: 5173,
    proxy: {
      "/api": server,
      "/gateway": { target: server, ws: true },
    },
  },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
} as Parameters<typeof defineConfig>[0]);
