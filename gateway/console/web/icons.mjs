// The crew page's icons from public/favicon.svg, by a Chromium on the PATH: `npm run icons`. What they make is kept beside
// the sources, as a build has no browser.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const svg = readFileSync("public/favicon.svg", "utf8");
const ground = /<rect[^>]*fill="(#[0-9a-f]+)"/.exec(svg)[1];
const folder = mkdtempSync(join(tmpdir(), "icons-"));

function draw(name, size, inside, background) {
  const margin = (size - inside) / 2;
  const page = join(folder, `${name}.html`);
  const picture = `data:image/svg+xml;base64,${Buffer.from(svg).toString("base64")}`;
  writeFileSync(page, `<body style="margin:0;background:${background}"><img src="${picture}" style="position:absolute;left:${margin}px;top:${margin}px" width="${inside}" height="${inside}">`);
  const out = join("public", "crew", `${name}.png`);
  execFileSync("chromium", [
    "--headless", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1", "--default-background-color=00000000",
    `--user-data-dir=${join(folder, "profile")}`, `--window-size=${size},${size}`, `--screenshot=${out}`, `file://${page}`,
  ], { stdio: "ignore" });
}

draw("icon-192", 192, 192, "transparent");
draw("icon-512", 512, 512, "transparent");
draw("icon-180", 180, 180, ground); // iOS cuts its own corners
draw("icon-mask-512", 512, 400, ground); // a launcher may cut a circle of 80 %
rmSync(folder, { recursive: true });
