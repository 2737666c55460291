import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  base: "./", // so that the page also works under a sub-path
  plugins: [react(), tailwindcss()],
  build: { outDir: "../src/llmscope/dashboard", emptyOutDir: true, assetsInlineLimit: 0 },
  server: { proxy: { "/api": "http://127.0.0.1:8081" } },
  test: { environment: "jsdom", setupFiles: ["src/test-setup.ts"] },
});
