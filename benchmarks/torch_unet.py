"""The same U-Net in PyTorch, as a peer to be compared with: same names, same arithmetic, NCHW."""

from __future__ import annotations


import torch
from torch import nn
from torch.nn import functional as F

from tinydiff.backends.cores import allowed_cores
from tinydiff.interop import weights
from tinydiff.model.unet import position_waves


class ResBlock(nn.Module):
    def __init__(self, C, O, E, config):
        super().__init__()
        self.norm1 = nn.GroupNorm(config.groups, C, config.eps)
        self.conv1 = nn.Conv2d(C, O, 3, padding=1)
        self.film = config.film
        self.time_emb_proj = nn.Linear(E, 2 * O if config.film else O)
        self.norm2 = nn.GroupNorm(config.groups, O, config.eps)
        self.conv2 = nn.Conv2d(O, O, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(C, O, 1) if C != O else nn.Identity()

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x)))
        modulation = self.time_emb_proj(time)[:, :, None, None]
        if self.film:
            scale, shift = modulation.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + modulation)
        return self.conv2(F.silu(h)) + self.conv_shortcut(x)


class AttentionBlock(nn.Module):
    def __init__(self, C, config):
        super().__init__()
        self.heads = C // min(config.head_width, C)
        self.group_norm = nn.GroupNorm(config.groups, C, config.eps)
        self.to_q, self.to_k, self.to_v = nn.Linear(C, C), nn.Linear(C, C), nn.Linear(C, C)
        self.to_out = nn.ModuleList([nn.Linear(C, C)])

    def forward(self, x):
        N, C, H, W = x.shape
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (
            layer(tokens).view(N, H * W, self.heads, -1).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(N, H * W, C)
        return x + self.to_out[0](mixed).transpose(1, 2).view(N, C, H, W)


class Resample(nn.Module):
    def __init__(self, C, stride):
        super().__init__()
        self.conv = nn.Conv2d(C, C, 3, stride=stride, padding=1)


class Level(nn.Module):
    def __init__(self, resnets, attentions, resample):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        for name, module in resample.items():
            setattr(self, name, nn.ModuleList([module]))


class StepEmbedding(nn.Module):
    def __init__(self, S, E):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(S, E), nn.Linear(E, E)


class TorchUNet(nn.Module):
    """The class-conditional U-Net of a ``UNetConfig``."""

    def __init__(self, config):
        super().__init__()
        widths, first = config.channels, config.channels[0]
        E, last = 4 * first, len(widths) - 1
        self.S = first
        waves = torch.tensor(position_waves(config.size, config.positions), dtype=torch.float32)
        self.register_buffer("positions", waves.permute(0, 3, 1, 2).contiguous(), persistent=False)
        self.conv_in = nn.Conv2d(config.image_channels + 4 * config.positions, first, 3, padding=1)
        self.time_embedding = StepEmbedding(first, E)
        self.class_embedding = nn.Embedding(config.classes + 1, E)

        self.down_blocks, C, skips = nn.ModuleList(), first, [first]
        for i, O in enumerate(widths):
            resnets = [ResBlock(C if j == 0 else O, O, E, config) for j in range(config.blocks)]
            attentions = [AttentionBlock(O, config) for _ in resnets] if config.has_attention(i) else []
            self.down_blocks.append(Level(resnets, attentions, {"downsamplers": Resample(O, 2)} if i < last else {}))
            skips += [O] * (config.blocks + (i < last))
            C = O
        self.mid_block = Level([ResBlock(C, C, E, config) for _ in range(2)], [AttentionBlock(C, config)], {})
        self.up_blocks = nn.ModuleList()
        for i, O in reversed(list(enumerate(widths))):
            resnets = []
            for _ in range(config.blocks + 1):
                resnets.append(ResBlock(C + skips.pop(), O, E, config))
                C = O
            attentions = [AttentionBlock(O, config) for _ in resnets] if config.has_attention(i) else []
            self.up_blocks.append(Level(resnets, attentions, {"upsamplers": Resample(O, 1)} if i else {}))
        self.conv_norm_out = nn.GroupNorm(config.groups, first, config.eps)
        self.conv_out = nn.Conv2d(first, config.image_channels, 3, padding=1)

    def forward(self, x, step, labels):
        half = self.S // 2
        frequency = 10000 ** (-torch.arange(half, device=x.device) / half)
        angle = step[:, None] * frequency
        waves = torch.cat([angle.sin(), angle.cos()], dim=1).to(x.dtype)
        time = self.time_embedding.linear_2(F.silu(self.time_embedding.linear_1(waves)))
        time = F.silu(time + self.class_embedding(labels))

        h = self.conv_in(torch.cat([x, self.positions.expand(len(x), -1, -1, -1)], dim=1))
        skips = [h]
        for level in self.down_blocks:
            for j, resnet in enumerate(level.resnets):
                h = resnet(h, time)
                if hasattr(level, "attentions"):
                    h = level.attentions[j](h)
                skips.append(h)
            if hasattr(level, "downsamplers"):
                h = level.downsamplers[0].conv(h)
                skips.append(h)
        h = self.mid_block.resnets[0](h, time)
        h = self.mid_block.resnets[1](self.mid_block.attentions[0](h), time)
        for level in self.up_blocks:
            for j, resnet in enumerate(level.resnets):
                h = resnet(torch.cat([h, skips.pop()], dim=1), time)
                if hasattr(level, "attentions"):
                    h = level.attentions[j](h)
            if hasattr(level, "upsamplers"):
                h = level.upsamplers[0].conv(F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.conv_out(F.silu(self.conv_norm_out(h)))

    def take(self, parameters):
        """Load the parameters of a tinydiff U-Net."""
        named = weights.to_torch(parameters.to_numpy(parameters.values), flip_sin_to_cos=False)
        self.load_state_dict({name: torch.from_numpy(array) for name, array in named.items()})


NCHW, NHWC = torch.contiguous_format, torch.channels_last
# name: memory layout of images and weights, compiled or not, precision
VARIANTS = {
    f"torch {how}{layout}{suffix}": (order, how == "compiled", precision)
    for suffix, precision in (("", torch.float32), (", bf16", torch.bfloat16))
    for how in ("eager", "compiled")
    for layout, order in (("", NCHW), (", channels last", NHWC))
}


class Peer:
    """The U-Net in one of the ``VARIANTS``, as fast as PyTorch runs it; images are NHWC NumPy arrays outside.

    In bfloat16 it trains as PyTorch's users do, by ``autocast``: parameters, their gradients and AdamW stay float32,
    as they do here. Where it only evaluates (``trains=False``) the module is converted whole, which autocast would do
    again and again, weight by weight: that is as exact, and was faster in eager mode (181 ms for 196, reference
    network, batch 16) and compiled (61 for 68, small network, batch 16). What goes in and comes out is float32.
    """

    def __init__(self, variant, config, *, trains=True):
        self.layout, compiled, precision = VARIANTS[variant]
        self.autocast = trains and precision is torch.bfloat16
        self.dtype = torch.float32 if trains else precision
        self.module = self.call = TorchUNet(config).to(dtype=self.dtype, memory_format=self.layout)
        if compiled:
            # without gradients, freezing lets the compiler reorder the weights for oneDNN once and for all
            self.call = torch.compile(self.module, dynamic=False, options={"freezing": True})

    def network(self, x, step, labels):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            return self.call(x.to(self.dtype), step, labels).float()

    def tensors(self, images, *others):
        images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)
        return images, *map(torch.from_numpy, others)

    def array(self, images):
        return images.detach().permute(0, 2, 3, 1).numpy()

    def guided(self, x, step, both_labels):
        """The predictions of x at one step with the first half of the labels and with the second."""
        return self.network(torch.cat([x, x]), torch.full((len(both_labels),), step), both_labels).chunk(2)

    def inference(self, function):
        """The function, without what only a backward would need."""
        return torch.inference_mode()(function)


def variants(*, every):
    """The names of every variant; or of those that may be the fastest: without the ones compiled from NCHW, as on CPUs
    the compiler lays images out channels-last in any case, and takes half a minute to a minute for each."""
    return [name for name, (layout, compiled, _) in VARIANTS.items() if every or not compiled or layout is not NCHW]


def peers(config, parameters, *, every=True, trains=True):
    """{variant: Peer} of these ``variants``, with the parameters of a tinydiff U-Net."""
    torch.set_num_threads(len(allowed_cores()))
    torch.compiler.reset()  # what was compiled for another case counts against the limit of compilations
    made = {name: Peer(name, config, trains=trains) for name in variants(every=every)}
    for peer in made.values():
        peer.module.take(parameters)
    return made
