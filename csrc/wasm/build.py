"""Builds tinydiff/site/engine.wasm: the kernels and the interpreter of csrc/cpu for WebAssembly with SIMD.

    python csrc/wasm/build.py [FOLDER]

It takes the ``ziglang`` of PyPI, in the one version whose bytes are shipped; a test builds again and compares. No Python
is in it and nothing is imported: memory, and all that is called, are in ``csrc/wasm``.
"""
