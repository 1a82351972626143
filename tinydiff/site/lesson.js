// The page lesson.html.

import "./shell.js";

document.getElementById("status").textContent = "Ready";
