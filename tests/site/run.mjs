// node run.mjs FOLDER-OF-THE-SITE < steps > results
import { readFileSync } from "node:fs";
import { perform } from "./driver.js";

console.log(JSON.stringify(await perform(`file://${process.argv[2]}`, JSON.parse(readFileSync(0, "utf8")))));
