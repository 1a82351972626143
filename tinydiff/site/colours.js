// Source text with its comments, texts, words and numbers told apart, as HTML.

const WORDS = {
  python:
    "and as assert break class continue def del elif else except finally for from if import in is lambda None not or " +
    "pass raise return True False try while with yield",
  c:
    "alignas auto bool break case char class const constexpr continue default do double else enum extern false float " +
    "for if inline int int32_t int64_t long namespace nullptr operator return short signed sizeof static static_assert " +
    "struct switch template this true typedef typename uint32_t uint64_t uint8_t unsigned using void volatile while " +
    "__global__ __device__ __shared__ __host__ __launch_bounds__ __restrict__ __forceinline__ __syncthreads",
};
const TOKENS = {
  python: /(?<comment>#[^\n]*)|(?<text>[rbf]*"""[^]*?"""|[rbf]*"(?:\\.|[^"\\\n])*"|[rbf]*'(?:\\.|[^'\\\n])*')/,
  c: /(?<comment>\/\/[^\n]*|\/\*[^]*?\*\/|^#\s*\w+)|(?<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')/,
};
const REST = /|(?<number>\b(?:0x[\da-fA-F]+|\d[\d.]*(?:e[-+]?\d+)?)[uUlLf]*)|(?<word>[A-Za-z_]\w*)/;

export function coloured(text, language) {
  const kind = language === "python" ? "python" : "c",
    words = new Set(WORDS[kind].split(" "));
  const tokens = new RegExp(TOKENS[kind].source + REST.source, "gm");
  let html = "",
    end = 0;
  for (const found of text.matchAll(tokens)) {
    const { comment, text: string, number, word } = found.groups;
    const name = comment ? "comment" : string ? "text" : number ? "number" : words.has(word) && "word";
    html += escaped(text.slice(end, found.index));
    html += name ? `<span class="${name}">${escaped(found[0])}</span>` : escaped(found[0]);
    end = found.index + found[0].length;
  }
  return html + escaped(text.slice(end));
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
