// Reads the files that tinydiff/program/file.py writes, and says what they are.

const FORMAT = "tinydiff program",
  VERSION = 1,
  CHECK = "expect_within";
const NAMES = { F32: "float32", BF16: "float32", F16: "float32", I64: "int64", U64: "uint64", U8: "uint8" };
const ARRAYS = {
  F32: Float32Array,
  BF16: Uint16Array,
  F16: Uint16Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  U8: Uint8Array,
};

// What program.json holds.
export async function readPrograms(url) {
  let file;
  try {
    file = JSON.parse(new TextDecoder().decode(await fetchBytes(url)));
  } catch (error) {
    throw error instanceof SyntaxError ? new Error(`${url} is truncated or not a program`) : error;
  }
  if (file.format !== FORMAT) throw new Error(`${url} is not a program of tinydiff`);
  if (file.version !== VERSION)
    throw new Error(`${url} has version ${file.version} of its format; version ${VERSION} is read`);
  return file;
}

// {name: values} of the arrays whose first values lie beside a program. They must be those that the program names.
export async function readWeights(programUrl, { arrays, weights }) {
  const url = new URL("weights.safetensors", programUrl),
    tensors = readSafetensors(await fetchBytes(url), url);
  const alone = [...weights, ...Object.keys(tensors)].find((name) => !(name in tensors && weights.includes(name)));
  const wrong = (what) => new Error(`${url} does not go with program.json: ${what}`);
  if (alone !== undefined) throw wrong(`${alone} is in one alone`);
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { dtype, shape, values }]) => {
      const wanted = arrays[name],
        text = (dtype, shape) => `${dtype} (${shape.join(", ")})`;
      if (text(dtype, shape) !== text(wanted.dtype, wanted.shape))
        throw wrong(`${name} must be ${text(wanted.dtype, wanted.shape)}, got ${text(dtype, shape)}`);
      return [name, values];
    }),
  );
}

function readSafetensors(bytes, url) {
  const truncated = new Error(`${url} is truncated or not a safetensors file`);
  if (bytes.length < 8) throw truncated;
  const data = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
  if (data > bytes.length) throw truncated;
  let header;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, data)));
  } catch {
    throw truncated;
  }
  delete header.__metadata__;
  const tensors = Object.entries(header).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [start, end],
      },
    ]) => {
      if (data + end > bytes.length) throw truncated;
      const values = new ARRAYS[dtype](bytes.slice(data + start, data + end).buffer);
      return [name, { dtype: NAMES[dtype], shape, values: WIDEN[dtype]?.(values) ?? values }];
    },
  );
  return Object.fromEntries(tensors);
}

// Values of 16 bits as float32: bfloat16 is its upper half; float16 has 5 bits of exponent, which count from 15.
const WIDEN = {
  BF16: (halves) => new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer),
  F16: (halves) => Float32Array.from(halves, fromHalf),
};

function fromHalf(half) {
  const sign = half >> 15 ? -1 : 1,
    exponent = (half >> 10) & 31,
    fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

// One call as the words that csrc/cpu/program.h describes.
export function encode([kernel, ...inputs], number) {
  if (kernel === CHECK) inputs.pop(); // what it looks at, in words
  let kinds = 0n;
  const words = inputs.map((input, i) => {
    if (input === null) return -1n;
    if (typeof input === "number") return BigInt(input);
    if ("float" in input) return new BigInt64Array(new Float64Array([input.float]).buffer)[0];
    if ("integer" in input) return BigInt.asIntN(64, BigInt(input.integer));
    if ("prepared" in input) return -1n; // none so far
    kinds |= ("float32" in input ? 1n : 2n) << BigInt(2 * i);
    return BigInt(input.float32 ?? input.int64);
  });
  return [BigInt.asIntN(64, BigInt(number) | (BigInt(words.length) << 8n) | (kinds << 16n)), ...words];
}

// What lies at an address, unpacked if it is gzipped: a site's large files are, whatever their names, so that they are
// small on every host.
export async function fetchBytes(url) {
  const bytes = await fetchPacked(url);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const unpacked = new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  return new Uint8Array(await unpacked.catch(() => Promise.reject(new Error(`${url} is truncated or damaged`))));
}

async function fetchPacked(url) {
  const unread = (why) => new Error(`${url} cannot be read: ${why}`);
  if (String(url).startsWith("file:")) {
    const { readFile } = await import("node:fs/promises"); // browsers do not come here
    return new Uint8Array(await readFile(new URL(url)).catch(({ code }) => Promise.reject(unread(code))));
  }
  const answer = await fetch(url).catch(() => Promise.reject(unread("no network")));
  if (!answer.ok) throw unread(answer.status);
  return new Uint8Array(await answer.arrayBuffer());
}
