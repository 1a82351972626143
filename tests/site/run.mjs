// node run.mjs DRIVER FOLDER-OF-THE-SITE < steps > results
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [driver, site] = process.argv.slice(2).map((path) => pathToFileURL(path).href);
const { perform } = await import(driver);
console.log(JSON.stringify(await perform(site, JSON.parse(readFileSync(0, "utf8")))));
