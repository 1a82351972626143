// The page gradients.html.

import "./shell.js";

document.getElementById("status").textContent = "Ready";
