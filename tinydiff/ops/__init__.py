"""The operations, written once in NumPy: derivation, forward, backward. This is the truth kernels answer to.

Every op is a module with ``forward(inputs..., options...) -> y, cache`` and ``backward(dy, cache) ->
gradients in the order of the inputs``. An op with parameters can be told where to write their gradients,
``backward(dy, cache, into=(dw, db))``, instead of making new arrays. Those of ``WITHOUT_GRADIENT`` return no cache.
"""

from tinydiff.ops import (
    adamw,
    attention,
    class_embedding,
    concat,
    conv2d,
    corrupt,
    draw_batch,
    dropout,
    gaussian_kl,
    gaussian_sample,
    geglu,
    gelu,
    global_norm,
    group_norm,
    l1_loss,
    layer_norm,
    linear,
    mse_loss,
    philox,
    silu,
    timestep_embedding,
    upsample2x,
)

OPS = {
    "linear": linear,
    "conv2d": conv2d,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "silu": silu,
    "gelu": gelu,
    "geglu": geglu,
    "dropout": dropout,
    "attention": attention,
    "upsample2x": upsample2x,
    "concat": concat,
    "class_embedding": class_embedding,
    "timestep_embedding": timestep_embedding,
    "mse_loss": mse_loss,
    "l1_loss": l1_loss,
    "gaussian_sample": gaussian_sample,
    "gaussian_kl": gaussian_kl,
    "philox": philox,
    "draw_batch": draw_batch,
    "corrupt": corrupt,
    "global_norm": global_norm,
    "adamw": adamw,
}
WITHOUT_GRADIENT = ("timestep_embedding", "philox", "draw_batch", "corrupt", "global_norm", "adamw")
