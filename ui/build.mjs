// Builds src/main.tsx into one file that Airflow's page imports; the same sources give the same bytes.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import * as esbuild from "esbuild";

// Airflow's page has these on globalThis: its router and theme work only with its own copies.
const HOST = {
  "react": "React",
  "react-dom": "ReactDOM",
  "react/jsx-runtime": "ReactJSXRuntime",
  "react-router-dom": "ReactRouterDOM",
  "@chakra-ui/react": "ChakraUI",
};

const hostGlobals = {
  name: "host-globals",
  setup(build) {
    const names = Object.keys(HOST).join("|");
    build.onResolve({ filter: new RegExp(`^(${names})$`) }, ({ path }) => ({ path, namespace: "host" }));
    build.onLoad({ filter: /.*/, namespace: "host" }, ({ path }) => ({
      contents: `module.exports = globalThis.${HOST[path]};`,
    }));
  },
};

const packages = new Set();

const addPackages = ({ inputs }) => {
  for (const path of Object.keys(inputs)) {
    const found = path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/);
    if (found) packages.add(found[1]);
  }
};

// Their licences ask for it: whoever has the bundle has their text.
const licenses = () =>
  [...packages].sort().map((name) => {
    const directory = join("node_modules", name);
    const file = readdirSync(directory).find((each) => /^licen[cs]e/i.test(each));
    const { version, license } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
    return `${name} ${version} (${license})\n\n${readFileSync(join(directory, file), "utf8").trim()}\n`;
  });

// A web worker starts from the text of its own bundle: a second file would need a second address.
const workers = {
  name: "workers",
  setup(build) {
    build.onResolve({ filter: /^worker:/ }, ({ path, resolveDir }) => ({
      path: join(resolveDir, path.slice("worker:".length)),
      namespace: "worker",
    }));
    build.onLoad({ filter: /.*/, namespace: "worker" }, async ({ path }) => {
      const built = await esbuild.build({ ...common, entryPoints: [path], write: false });
      addPackages(built.metafile);
      return { contents: built.outputFiles[0].text, loader: "text" };
    });
  },
};

const common = {
  metafile: true,
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
};

const outfile = process.argv[2] ?? "../airflow_zen/ui/static/main.js";
const built = await esbuild.build({
  ...common,
  entryPoints: ["src/main.tsx"],
  jsx: "automatic",
  loader: { ".css": "text" },
  plugins: [hostGlobals, workers],
  outfile,
});
addPackages(built.metafile);
writeFileSync(join(dirname(outfile), "licenses.txt"), licenses().join("\n----\n\n"));
