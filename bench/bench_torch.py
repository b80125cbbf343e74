"""The Swin block of bench_block in PyTorch, in the same run: ratio of our GFLOP/s to torch's.

usage: bench_torch.py BUILD_FOLDER. Prints a note and nothing else where torch is absent.
"""
import os
import subprocess
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("# bench_torch: python3 has no torch here; nothing compared")
    sys.exit(0)

BATCH, SIDE, WIDTH, HEADS, WINDOW = 4, 24, 512, 16, 12
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))


class Block(torch.nn.Module):
    """Shifted-window block, written as the reference writes it: roll, partition, attention, reverse, MLP."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv, self.proj = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)
        self.table = torch.nn.Parameter(torch.randn((2 * WINDOW - 1) ** 2, HEADS) * 0.02)
        at = torch.stack(torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")).flatten(1)
        off = (at[:, :, None] - at[:, None, :] + WINDOW - 1)
        self.register_buffer("index", off[0] * (2 * WINDOW - 1) + off[1])
        label = torch.zeros(SIDE, SIDE)
        cuts = (slice(0, -WINDOW), slice(-WINDOW, -WINDOW // 2), slice(-WINDOW // 2, None))
        for i, y in enumerate(cuts):
            for j, x in enumerate(cuts):
                label[y, x] = 3 * i + j
        w = self.windows(label[None, :, :, None])[:, :, 0]
        self.register_buffer("mask", (w[:, None, :] != w[:, :, None]).float() * -100.0)

    @staticmethod
    def windows(x):
        b, _, _, c = x.shape
        n = SIDE // WINDOW
        return x.view(b, n, WINDOW, n, WINDOW, c).transpose(2, 3).reshape(b * n * n, WINDOW * WINDOW, c)

    def forward(self, x):
        h = torch.roll(self.norm1(x).view(BATCH, SIDE, SIDE, WIDTH), (-WINDOW // 2, -WINDOW // 2), (1, 2))
        h = self.windows(h)
        q, k, v = self.qkv(h).view(h.shape[0], -1, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        s = (q * (WIDTH // HEADS) ** -0.5) @ k.transpose(-2, -1)
        s = s + self.table[self.index].permute(2, 0, 1)
        s = s.view(BATCH, -1, *s.shape[1:]) + self.mask[None, :, None].to(s.dtype)
        a = s.flatten(0, 1).softmax(-1).to(v.dtype)
        o = self.proj((a @ v).transpose(1, 2).reshape(h.shape))
        n = SIDE // WINDOW
        o = o.view(BATCH, n, n, WINDOW, WINDOW, WIDTH).transpose(2, 3).reshape(BATCH, SIDE, SIDE, WIDTH)
        x = x + torch.roll(o, (WINDOW // 2, WINDOW // 2), (1, 2)).reshape(BATCH, SIDE * SIDE, WIDTH)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def torch_gflops(bf16):
    block = Block()
    x = torch.randn(BATCH, SIDE * SIDE, WIDTH, requires_grad=True)
    m = BATCH * SIDE * SIDE
    flops = 3 * (2 * m * WIDTH * WIDTH * 12 + 4 * m * WINDOW * WINDOW * WIDTH)
    best, begin = 1e9, time.time()
    while time.time() - begin < 4:
        start = time.time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = block(x).float().sum()
        loss.backward()
        best = min(best, time.time() - start)
        block.zero_grad(set_to_none=True)
        x.grad = None
    return flops / best * 1e-9


rows = subprocess.run([os.path.join(sys.argv[1], "bench/bench_block")], capture_output=True, text=True, check=True)
for line, bf16 in zip([r for r in rows.stdout.splitlines() if "\t" in r], (False, True)):
    ours, theirs = float(line.split("\t")[1]), torch_gflops(bf16)
    name = "swin block against torch %s, %s" % (torch.__version__, "bf16" if bf16 else "f32")
    print("%s\t%.1f\tGFLOP/s\t%.1f\t%.2f\tceiling: torch, same block" % (name, ours, theirs, ours / theirs))
