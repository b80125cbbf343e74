"""FIBER-Base's training step and Swin-B/384 in PyTorch, beside ours: the same shapes, objectives, batch and update.

Plain modules, written as the reference composes them: Swin with roll, partition and an additive bias, RoBERTa with
attention by scaled_dot_product_attention where there is no bias, AMP in bf16, fused AdamW. Every objective encodes its
own inputs (MLM 1, ITC 1, ITM 3 passes), as the public code does; with --share prefixes are computed once, as ours can.

usage: gpu_torch.py [--mode eager|compiled] [--what step|swin] [--batch N] [--share] [--quick] [--ours SAMPLES_PER_S]
                    [--ours-memory GB]
Prints the rows of bench/gpu_bench.h. Without torch, or without a GPU (--quick runs on the CPU, in f32), says so.
"""
import argparse
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    print("# gpu_torch: python3 has no torch here; nothing compared")
    sys.exit(0)

WHOLE = {"image": 384, "embed": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "window": 12, "layers": 12,
         "hidden": 768, "text_heads": 12, "ffn": 3072, "vocab": 50265, "length": 40, "positions": 514, "fuse": 6,
         "dropout": 0.1}
TINY = {"image": 32, "embed": 16, "depths": (1, 1, 2, 1), "heads": (1, 1, 2, 2), "window": 2, "layers": 2, "hidden": 32,
        "text_heads": 2, "ffn": 64, "vocab": 300, "length": 16, "positions": 18, "fuse": 2, "dropout": 0.1}


class SwinBlock(nn.Module):
    def __init__(self, width, heads, side, window, shift, text, drop_path):
        super().__init__()
        window = min(window, side)
        self.width, self.heads, self.side, self.window, self.shift = width, heads, side, window, shift
        self.drop_path = drop_path
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        off = at[:, :, None] - at[:, None, :] + window - 1
        self.register_buffer("index", off[0] * (2 * window - 1) + off[1])
        if shift:
            label = torch.zeros(side, side)
            cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
            for i, y in enumerate(cuts):
                for j, x in enumerate(cuts):
                    label[y, x] = 3 * i + j
            w = self.windows(label[None, :, :, None])[:, :, 0]
            self.register_buffer("shift_mask", (w[:, None, :] != w[:, :, None]).float() * -100.0)
        if text:
            self.alpha = nn.Parameter(torch.zeros(1))
            self.norm_i2t = nn.LayerNorm(width)
            self.q_i2t, self.kv_i2t = nn.Linear(width, width), nn.Linear(text, 2 * width)
            self.proj_i2t = nn.Linear(width, width)

    def windows(self, x):
        b, s, _, c = x.shape
        n, w = s // self.window, self.window
        return x.view(b, n, w, n, w, c).transpose(2, 3).reshape(b * n * n, w * w, c)

    def reverse(self, x, batch):
        n, w = self.side // self.window, self.window
        x = x.view(batch, n, n, w, w, self.width).transpose(2, 3)
        return x.reshape(batch, self.side, self.side, self.width)

    def split(self, x, parts):
        return x.view(x.shape[0], -1, parts, self.heads, self.width // self.heads).permute(2, 0, 3, 1, 4)

    def keep(self, x):
        if not self.drop_path or not self.training:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.drop_path
        return x * (kept / (1 - self.drop_path)).to(x.dtype)

    def forward(self, x, text=None, text_mask=None):
        batch = x.shape[0]
        h = self.norm1(x)
        if self.shift:
            h = torch.roll(h, (-self.shift, -self.shift), (1, 2))
        q, k, v = self.split(self.qkv(self.windows(h)), 3)
        s = (q * (self.width // self.heads) ** -0.5) @ k.transpose(-2, -1)
        s = s + self.table[self.index].permute(2, 0, 1).to(s.dtype)
        if self.shift:
            s = s.view(batch, -1, *s.shape[1:]) + self.shift_mask[None, :, None].to(s.dtype)
            s = s.flatten(0, 1)
        a = s.softmax(-1).to(v.dtype) @ v
        o = self.proj(a.transpose(1, 2).reshape(-1, self.window ** 2, self.width))
        if text is not None:
            each = o.shape[0] // batch
            (tk, tv) = self.split(self.kv_i2t(text), 2).repeat_interleave(each, 1)
            tq = self.split(self.q_i2t(self.norm_i2t(o)), 1)[0]
            mask = text_mask[:, None, None].repeat_interleave(each, 0)
            c = F.scaled_dot_product_attention(tq, tk.to(tq.dtype), tv.to(tq.dtype), mask.to(tq.dtype))
            o = o + self.alpha * self.proj_i2t(c.transpose(1, 2).reshape(o.shape))
        o = self.reverse(o, batch)
        if self.shift:
            o = torch.roll(o, (self.shift, self.shift), (1, 2))
        x = x + self.keep(o)
        return x + self.keep(self.fc2(F.gelu(self.fc1(self.norm2(x)))))


class Merge(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x):
        parts = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
        return self.reduction(self.norm(torch.cat(parts, -1)))


class Swin(nn.Module):
    """Blocks and merges in one list of (stage, block, merge or None)."""

    def __init__(self, c, fused):
        super().__init__()
        self.embed = nn.Conv2d(3, c["embed"], 4, 4)
        self.norm0 = nn.LayerNorm(c["embed"])
        self.blocks, self.merges = nn.ModuleList(), nn.ModuleDict()
        total, number, text = sum(c["depths"]), 0, c["hidden"]
        for stage, depth in enumerate(c["depths"]):
            width, side = c["embed"] << stage, c["image"] // 4 >> stage
            for b in range(depth):
                shift = c["window"] // 2 if b % 2 and side > c["window"] else 0
                self.blocks.append(SwinBlock(width, c["heads"][stage], side, c["window"], shift,
                                             text if number >= total - fused else 0, 0.1 * number / (total - 1)))
                number += 1
            if stage < 3:
                self.merges[str(number - 1)] = Merge(width)

    def start(self, pixels):
        return self.norm0(self.embed(pixels).permute(0, 2, 3, 1))

    def block(self, n, x, text=None, mask=None):
        return self.blocks[n](x, text, mask)

    def after(self, n, x):
        return self.merges[str(n)](x) if str(n) in self.merges else x

    def forward(self, pixels):
        x = self.start(pixels)
        for n in range(len(self.blocks)):
            x = self.after(n, self.block(n, x))
        return x


class Layer(nn.Module):
    def __init__(self, c, image):
        super().__init__()
        d, self.heads, self.dropout = c["hidden"], c["text_heads"], c["dropout"]
        self.query, self.key, self.value, self.dense = (nn.Linear(d, d) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.fc1, self.fc2 = nn.Linear(d, c["ffn"]), nn.Linear(c["ffn"], d)
        if image:
            self.alpha = nn.Parameter(torch.zeros(1))
            self.q2, self.k2, self.v2, self.dense2 = (nn.Linear(d, d), nn.Linear(image, d), nn.Linear(image, d),
                                                      nn.Linear(d, d))

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def attend(self, q, k, v, mask):
        o = F.scaled_dot_product_attention(self.split(q), self.split(k), self.split(v),
                                           None if mask is None else mask[:, None, None].to(q.dtype),
                                           dropout_p=self.dropout if self.training else 0.0)
        return o.transpose(1, 2).flatten(2)

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def forward(self, h, mask, image=None, last_norm=True):
        s = self.drop(self.dense(self.attend(self.query(h), self.key(h), self.value(h), mask)))
        if image is not None:
            v = image.flatten(1, 2)
            s = s + self.alpha * self.drop(self.dense2(self.attend(self.q2(s), self.k2(v), self.v2(v), None)))
        u = self.norm1(s + h)
        out = self.drop(self.fc2(F.gelu(self.fc1(u)))) + u
        return self.norm2(out) if last_norm else out


class Fiber(nn.Module):
    def __init__(self, c, share):
        super().__init__()
        d, top, self.c, self.share = c["hidden"], c["embed"] * 8, c, share
        self.swin = Swin(c, c["fuse"])
        self.words, self.places = nn.Embedding(c["vocab"], d, 1), nn.Embedding(c["positions"], d, 1)
        self.kinds, self.norm = nn.Embedding(1, d), nn.LayerNorm(d)
        total = sum(c["depths"])
        first = total - c["fuse"]
        widths = [blk.width for blk in self.swin.blocks]
        self.first_block, self.first_layer = first, c["layers"] - c["fuse"]
        self.layers = nn.ModuleList(Layer(c, widths[first + t - self.first_layer] if t >= self.first_layer else 0)
                                    for t in range(c["layers"]))
        self.image_norm = nn.LayerNorm(top)
        self.text_transform, self.text_transform_itc = nn.Linear(d, d), nn.Linear(d, d)
        self.image_transform, self.image_transform_itc = nn.Linear(top, d), nn.Linear(top, d)
        self.poolers = nn.ModuleList(nn.Linear(d, d) for _ in range(4))
        self.mlm_dense, self.mlm_norm, self.mlm_out = nn.Linear(d, d), nn.LayerNorm(d, 1e-12), nn.Linear(d, c["vocab"])
        self.itm = nn.Linear(2 * d, 2)
        self.temperature = nn.Parameter(torch.tensor(0.07))

    def image_prefix(self, pixels):
        x = self.swin.start(pixels)
        for n in range(self.first_block):
            x = self.swin.after(n, self.swin.block(n, x))
        return x

    def text_prefix(self, ids, mask):
        used = (ids != 1).long()
        place = torch.cumsum(used, 1) * used + 1
        h = self.words(ids) + self.places(place) + self.kinds.weight[0]
        h = F.dropout(self.norm(h), self.c["dropout"], self.training)
        for t in range(self.first_layer):
            h = self.layers[t](h, mask)
        return h

    def fuse(self, x, h, mask):
        for t in range(self.first_layer, len(self.layers)):
            n = self.first_block + t - self.first_layer
            fused = self.layers[t](h, mask, x, t + 1 < len(self.layers))
            x = self.swin.after(n, self.swin.block(n, x, h, mask))
            h = fused
        text, image = self.text_transform(h), self.image_transform(x).flatten(1, 2)
        cls = torch.cat((torch.tanh(self.poolers[0](text[:, 0])), torch.tanh(self.poolers[1](image.mean(1)))), -1)
        return text, cls

    def features(self, x, h, mask):
        for n in range(self.first_block, len(self.swin.blocks)):
            x = self.swin.after(n, self.swin.block(n, x))
        for t in range(self.first_layer, len(self.layers)):
            h = self.layers[t](h, mask)
        image = self.image_transform_itc(self.image_norm(x)).flatten(1, 2).mean(1)
        image = torch.tanh(self.poolers[2](image)).float()
        text = torch.tanh(self.poolers[3](self.text_transform_itc(h)[:, 0])).float()
        return image / image.norm(dim=-1, keepdim=True), text / text.norm(dim=-1, keepdim=True)

    def forward(self, pixels, ids, mask, mlm_ids, index, targets):
        pixels = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        batch = pixels.shape[0]
        added = (1 - mask).float() * -10000.0
        image, text = self.image_prefix(pixels), None
        tokens, _ = self.fuse(image, self.text_prefix(mlm_ids, added), added)
        rows = tokens.flatten(0, 1)[index]
        logits = self.mlm_out(self.mlm_norm(F.gelu(self.mlm_dense(rows))))
        loss = F.cross_entropy(logits.float(), targets, ignore_index=-100)
        if not self.share:
            image = self.image_prefix(pixels)
        text = self.text_prefix(ids, added)
        fi, ft = self.features(image, text, added)
        similar = fi @ ft.t() / self.temperature
        own = torch.arange(batch, device=ids.device)
        loss = loss + (F.cross_entropy(similar, own) + F.cross_entropy(similar.t(), own)) / 2
        with torch.no_grad():
            others = 1 - torch.eye(batch, device=ids.device)
            drawn_text = torch.multinomial(similar.softmax(1) * others + 1e-9 * others, 1)[:, 0]
            drawn_image = torch.multinomial(similar.t().softmax(1) * others + 1e-9 * others, 1)[:, 0]
        masks = torch.cat((added, added[drawn_text], added))
        if self.share:
            x = torch.cat((image, image, image[drawn_image]))
            h = torch.cat((text, text[drawn_text], text))
        else:
            x = self.image_prefix(torch.cat((pixels, pixels, pixels[drawn_image])))
            h = self.text_prefix(torch.cat((ids, ids[drawn_text], ids)), masks)
        _, cls = self.fuse(x, h, masks)
        label = torch.cat((torch.ones(batch), torch.zeros(2 * batch))).long().to(ids.device)
        return loss + F.cross_entropy(self.itm(cls).float(), label)


def step_inputs(c, batch, device):
    g = torch.Generator().manual_seed(0)
    length, used = c["length"], c["length"] * 3 // 4
    pixels = torch.randint(0, 256, (batch, c["image"], c["image"], 3), generator=g, dtype=torch.uint8)
    ids = torch.randint(5, c["vocab"] - 1, (batch, length), generator=g)
    mask = (torch.arange(length) < used).long().expand(batch, length).contiguous()
    ids = torch.where(mask == 1, ids, torch.ones_like(ids))
    place = torch.arange(2, used, 4)[:6]
    index = (torch.arange(batch)[:, None] * length + place).flatten()
    masked = ids.clone()
    masked.view(-1)[index] = c["vocab"] - 1
    return [t.to(device) for t in (pixels, ids, mask, masked, index, ids.view(-1)[index])]


def measure(module, inputs, device, quick, update):
    """Seconds of a step, and the most memory that was allocated and reserved."""
    fused = {"fused": True} if device == "cuda" else {}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, weight_decay=0.01, **fused) if update else None
    warm, runs, seconds = (1, 2, []) if quick else (4, 12, [])
    for i in range(warm + runs):
        if device == "cuda":
            torch.cuda.synchronize()
            if i == warm:
                torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            out = module(*inputs)
            loss = out if out.dim() == 0 else (out.float() * inputs[0].new_ones(())).sum()
        loss.backward()
        if optimizer:
            optimizer.step()
        module.zero_grad(set_to_none=True)
        value = loss.item()  # as a training loop reads it
        assert value == value, "the loss is not a number"
        if device == "cuda":
            torch.cuda.synchronize()
        if i >= warm:
            seconds.append(time.perf_counter() - start)
    seconds = sorted(seconds)[len(seconds) // 2]
    if device != "cuda":
        return seconds, 0.0, 0.0
    return seconds, torch.cuda.max_memory_allocated() * 1e-9, torch.cuda.max_memory_reserved() * 1e-9


def row(section, name, figure, unit, ceiling=0.0, ratio=0.0, bar=0.0, note=""):
    of = f"{ceiling:.4g}\t{ratio:.3f}" if ceiling else "-\t-"
    judged = "-\t-"
    if bar > 0 and ceiling:
        judged = f"at least {bar:.2f}\t{'met' if ratio >= bar else 'missed'}"
    if bar < 0 and ceiling:
        judged = f"at most {-bar:.2f}\t{'met' if ratio <= -bar else 'missed'}"
    print(f"row\t{section}\t{name}\t{figure:.4g}\t{unit}\t{of}\t{judged}\t{note}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=("eager", "compiled"), default="eager")
    parser.add_argument("--what", choices=("step", "swin"), default="step")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--share", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ours", type=float, default=0)
    parser.add_argument("--ours-memory", type=float, default=0)
    a = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not a.quick:
        print("# gpu_torch: torch sees no GPU here; nothing compared")
        return
    section = "torch-" + a.mode
    c = TINY if a.quick else WHOLE
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    batch = a.batch
    name = f"torch {torch.__version__} {a.mode}, "
    name += "Swin-B/384 forward + backward" if a.what == "swin" else \
        "FIBER-Base step, " + ("shared prefixes" if a.share else "nothing shared")
    while batch >= 1:
        try:
            model = (Swin(c, 0) if a.what == "swin" else Fiber(c, a.share)).to(device).train()
            module = torch.compile(model) if a.mode == "compiled" else model
            if a.what == "swin":
                for block in model.blocks:
                    block.drop_path = 0.0
                inputs = [torch.randn(batch, 3, c["image"], c["image"], device=device)]
            else:
                inputs = step_inputs(c, batch, device)
            begin = time.perf_counter()
            seconds, used, reserved = measure(module, inputs, device, a.quick, a.what == "step")
            break
        except torch.cuda.OutOfMemoryError:
            model = module = inputs = None
            torch.cuda.empty_cache()
            batch //= 2
    else:
        print(f"# gpu_torch: {name}: not even one sample fits")
        return
    took = time.perf_counter() - begin
    parameters = sum(p.numel() for p in model.parameters()) * 1e-6
    note = f"micro-batch {batch}, {1e3 * seconds:.2f} ms, {parameters:.1f} M parameters, {took:.0f} s in all"
    row(section, name, batch / seconds, "samples/s", note=note)
    if used:
        row(section, name + ", memory", used, "GB", note=f"allocated at most; reserved {reserved:.1f} GB")
    bar = {"eager": 3.3, "compiled": 2.0}[a.mode] if a.what == "step" else 0.0
    if a.ours:
        row(section, "ours against " + name, a.ours, "samples/s", batch / seconds, a.ours * seconds / batch, bar)
    if a.ours_memory and used and batch == a.batch:
        row(section, "memory of ours against " + name, a.ours_memory, "GB", used, a.ours_memory / used, -0.4)
    elif a.ours_memory and used:
        print(f"# {name}: micro-batch {a.batch} does not fit; memory is not compared")


main()
