// Keeps the site: after the first visit it works without a network, and newer files come with the visit after.
//
// It also adds the two headers that let threads share memory, which many hosts cannot be told to send.

const NAME = "tinydiff {{version}}",
  FILES = "{{files}}".split(" ");

addEventListener("install", (event) => {
  event.waitUntil(keepAll().then(() => skipWaiting()));
});

async function keepAll() {
  const cache = await caches.open(NAME);
  await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
}

addEventListener("activate", (event) => {
  event.waitUntil(dropOthers().then(() => clients.claim()));
});

async function dropOthers() {
  for (const name of await caches.keys()) if (name.startsWith("tinydiff ") && name !== NAME) await caches.delete(name);
}

addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && new URL(url).origin === location.origin) event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(NAME);
  const isFolder = new URL(request.url).pathname.endsWith("/");
  const kept = await cache.match(isFolder ? "index.html" : request, { ignoreSearch: true });
  return isolated(kept ?? (await fetch(request)));
}

function isolated(response) {
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
