// The page lab.html.

import "./shell.js";

document.getElementById("status").textContent = "Ready";
