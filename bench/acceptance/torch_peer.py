#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PyTorch reaches on the same shapes: reads requests from stdin, one JSON object a line, and answers each with
one line.

bench/acceptance/torch_peer.py cuda|cpu

{"op": "copy"}, {"op": "read"} and {"op": "matmul"}: the limits of the machine; {"op": "linear", "rows", "n", "k"}
and {"op": "attention", "batch", "rows", "past", "heads", "kv_heads", "dim"}: what our kernels do. The answer is
{"seconds", "work", "times", "backend"}: a median, and the bytes or operations behind it; or {"error"}. On a GPU
times are its own events', with 256 MB written between runs; on a CPU the shapes are small, to play the script."""
import json
import statistics
import sys
import time

WARM_UPS, RUNS, SECONDS, FLUSH_BYTES = 5, 50, 1.5, 256 << 20


def load(device):
    """torch, ready; or a sentence on why not."""
    try:
        import torch
        import torch.nn.attention
    except ImportError as error:
        return None, f"torch can't be imported: {error}"
    if device == "cuda" and not torch.cuda.is_available():
        return None, "torch finds no GPU"
    torch.manual_seed(1)
    return torch, None


class Clock:
    def __init__(self, torch, device):
        self.torch, self.device = torch, device
        self.is_gpu = device == "cuda"
        self.flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device) if self.is_gpu else None

    def once(self, work):
        if not self.is_gpu:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        start.record()
        work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3

    def times(self, work):
        """Sorted seconds of the runs that fit the time."""
        for _ in range(WARM_UPS if self.is_gpu else 1):
            self.once(work)
        stop, out = time.perf_counter() + SECONDS, []
        while len(out) < 3 or (len(out) < RUNS and self.is_gpu and time.perf_counter() < stop):
            out.append(self.once(work))
        return sorted(out)


def limit(clock, name):
    """(times, work) of one limit."""
    torch, device = clock.torch, clock.device
    if name == "matmul":
        n = 8192 if clock.is_gpu else 128
        a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
        return clock.times(lambda: torch.matmul(a, b)), 2.0 * n ** 3
    n = 4 << 30 if clock.is_gpu else 1 << 20
    source = torch.randint(0, 100, (n // 4,), dtype=torch.int32, device=device)
    if name == "read":
        return clock.times(lambda: source.view(torch.float32).sum()), float(n)
    target = torch.empty_like(source)
    return clock.times(lambda: target.copy_(source)), 2.0 * n


def linear(clock, request):
    torch = clock.torch
    rows, n, k = request["rows"], request["n"], request["k"]
    w = torch.randn(n, k, dtype=torch.bfloat16, device=clock.device)
    x = torch.randn(rows, k, dtype=torch.bfloat16, device=clock.device)
    work = 2.0 * rows * n * k
    return {"F.linear": clock.times(lambda: torch.nn.functional.linear(x, w)),
            "torch.matmul": clock.times(lambda: torch.matmul(x, w.t()))}, work


def attention(clock, request):
    """Rows after `past` tokens, each seeing all before it: one row, or a whole prompt."""
    torch = clock.torch
    batch, rows, past, dim = (request[name] for name in ("batch", "rows", "past", "dim"))
    if rows > 1 and past > 0:
        raise ValueError("a prompt after other tokens has no causal mask of its own")
    def tensor(heads, n):
        return torch.randn(batch, heads, n, dim, dtype=torch.float16, device=clock.device)
    q = tensor(request["heads"], rows)
    k, v = (tensor(request["kv_heads"], past + rows) for _ in range(2))
    call = torch.nn.functional.scaled_dot_product_attention
    kinds = torch.nn.attention.SDPBackend
    backends = {"flash": kinds.FLASH_ATTENTION, "cudnn": kinds.CUDNN_ATTENTION}
    if not clock.is_gpu:
        backends = {"math": kinds.MATH}
    found, troubles = {}, []
    for name, kind in backends.items():
        try:
            with torch.nn.attention.sdpa_kernel(kind):
                found[name] = clock.times(lambda: call(q, k, v, is_causal=rows > 1, enable_gqa=True))
        except RuntimeError as error:
            troubles.append(f"{name}: {str(error).splitlines()[0]}")
    if not found:
        raise RuntimeError("; ".join(troubles))
    return found, 4.0 * batch * request["heads"] * dim * sum(past + i + 1 for i in range(rows))


def answer(clock, request):
    if request["op"] in ("copy", "read", "matmul"):
        times, work = limit(clock, request["op"])
        found = {request["op"]: times}
    else:
        found, work = (linear if request["op"] == "linear" else attention)(clock, request)
    medians = {name: statistics.median(times) for name, times in found.items()}
    best = min(medians, key=medians.get)
    return {"seconds": medians[best], "work": work, "backend": best, "times": medians, "runs": len(found[best])}


def main():
    device = sys.argv[1]
    torch, trouble = load(device)
    if torch is None:
        print(json.dumps({"fatal": trouble}), flush=True)
        return 1
    clock = Clock(torch, device)
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        try:
            with torch.inference_mode():
                reply = answer(clock, json.loads(line))
        except Exception as error:  # whatever torch can't do here is told, and the next shape asked
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        if clock.is_gpu:
            torch.cuda.empty_cache()  # our own kernels come next
        print(json.dumps(reply), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
