// The page index.html.

import "./shell.js";

document.getElementById("status").textContent = "Ready";
