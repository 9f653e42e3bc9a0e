# SPDX-License-Identifier: Apache-2.0
"""The items of a run as a Markdown page, a table a step."""
from acceptance.job import STATUSES

# Column, field, how it is written.
COLUMNS = (("us", "median_us", "{:.1f}"), ("GB/s", "gbs", "{:.0f}"), ("TFLOP/s", "tflops", "{:.1f}"),
           ("tokens/s", "tokens_per_s", "{:.1f}"), ("of measured", "share_of_measured", "{:.0%}"),
           ("of data sheet", "share_of_datasheet", "{:.0%}"), ("bound by", "bound", "{}"),
           ("PyTorch us", "comparator_us", "{:.1f}"), ("PyTorch / ours", "ratio", "{:.2f}"),
           ("sectors", "ncu_sectors", "{}"), ("emulator's", "emu_sectors", "{}"),
           ("conflicts", "ncu_conflicts", "{}"), ("emulator's ", "emu_conflicts", "{}"),
           ("worst", "worst", "{:.2g}"), ("findings", "n_findings", "{}"))
RECORD = ("card", "machine", "card after")  # all their fields are told
HIDDEN = ("step", "item", "status", "device", "date", "commit", "gpu", "torch")


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def record_of(items):
    for line in items:
        if line["item"] in RECORD and line["status"] == "measured":
            facts = (f"{k} {v}" for k, v in line.items() if k not in HIDDEN and v is not None)
            yield f"{line['item']}: " + ", ".join(facts) + "  "


def table_of(items):
    columns = [c for c in COLUMNS if any(line.get(c[1]) is not None for line in items)]
    yield "| item | result | " + "".join(f"{name} | " for name, _, _ in columns) + "note |"
    yield "|---|---|" + "---:|" * len(columns) + "---|"
    for line in items:
        cells = [line["item"], line["status"]]
        for _, field, form in columns:
            value = line.get(field)
            cells.append("" if value is None else form.format(value))
        yield "| " + " | ".join(map(cell, cells + [line.get("reason", "")])) + " |"


def render(items):
    first = items[0] if items else {}
    last = items[-1] if items else {}
    card = last.get("gpu", "no GPU: times say nothing")
    out = [f"# Acceptance run on {last.get('device', '?')}, {card}", "",
           f"Commit {last.get('commit', 'unknown')}, {first.get('date', '')} to {last.get('date', '')}, by "
           "`bench/gpu-acceptance`. Shares are of what this card reached in the step `limits` (bytes: a copy, read "
           "and written; operations: a bf16 product of random numbers), and of its data sheet.", ""]
    out += list(record_of(items))
    for step in dict.fromkeys(line["step"] for line in items):
        of_step = [line for line in items if line["step"] == step and line["item"] not in RECORD]
        if of_step:
            out += ["", f"## {step}", "", *table_of(of_step)]
    counts = (f"{sum(line['status'] == status for line in items)} {status}" for status in STATUSES)
    return "\n".join(out) + "\n\n" + ", ".join(counts) + "\n"
