# SPDX-License-Identifier: Apache-2.0
"""bobbin bench."""
import csv
import io
import json
import re
import subprocess
import sys
import unittest

from case import BUILD, ROOT, SECONDS, TINY, TINY_WINDOW, REAL, Case, bobbin, real


class Bench(Case):
    ARGS = ("bench", TINY, "-p", "16", "-n", "4", "-r", "2")

    def test_table(self):
        lines = bobbin(*self.ARGS, "-d", "0,8", "-np", "1,3")[0].decode().splitlines()
        self.assertEqual(len(lines), 2 + 8)
        self.assertEqual(len({line.count("|") for line in lines}), 1)
        for word in ("pp16", "tg4", "pp16 @ d8", "tg4 @ d8"):
            self.assertEqual(sum(re.search(rf"\| {word} +\|", line) is not None for line in lines), 2, word)

    def test_json(self):
        rows = json.loads(bobbin(*self.ARGS, "-np", "1,2", "-o", "json")[0])
        self.assertEqual([(r["n_prompt"], r["n_gen"], r["n_parallel"]) for r in rows],
                         [(16, 0, 1), (0, 4, 1), (16, 0, 2), (0, 4, 2)])
        names = {"build_commit", "build_number", "cpu_info", "backends", "model_filename", "model_type", "model_size",
                 "model_n_params", "n_batch", "n_ubatch", "n_threads", "type_k", "type_v", "n_gpu_layers",
                 "flash_attn", "n_depth", "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns",
                 "samples_ts", "pct_bandwidth"}
        for row in rows:
            self.assertLessEqual(names, set(row))
            self.assertEqual(len(row["samples_ts"]), 2)
            self.assertAlmostEqual(row["avg_ts"], sum(row["samples_ts"]) / 2, 3)
            if row["n_gen"] == 0:
                self.assertIsNone(row["pct_bandwidth"])

    @real
    def test_share_of_the_bandwidth(self):
        row = json.loads(bobbin("bench", REAL, "-p", "0", "-n", "4", "-r", "1", "--json")[0])[0]
        self.assertGreater(row["read_bandwidth"], 1e8)
        self.assertAlmostEqual(row["pct_bandwidth"], 100 * row["step_bytes"] * 4e9 / row["avg_ns"] /
                               row["read_bandwidth"], 2)

    def test_types_as_llama_bench_has_them(self):
        for args, want in (((), "f16"), (("-ctk", "q8_0", "-ctv", "int8"), "int8"), (("-ctk", "f16"), "f16"),
                           (("--cache-type-k", "f32", "--cache-type-v=f32"), "f32")):
            row = json.loads(bobbin("bench", TINY, "-p", "4", "-n", "0", "-r", "1", "-o", "jsonl", *args)[0])
            self.assertEqual((row["type_k"], row["type_v"]), (want, want))
        self.sentence(bobbin("bench", TINY, "-ctk", "int8", status=1)[1], "'int8'", "'f16'", "one type for both")
        self.sentence(bobbin("bench", TINY, "-ctk", "f16", "--kv-cache-dtype", "f16", status=2)[1], "-ctk", "both")
        self.sentence(bobbin("bench", TINY, "-ctk", "f99", "-ctv", "f99", status=2)[1], "'f99'")

    def test_name_of_the_cpu_is_that_of_the_kernels(self):
        row = json.loads(bobbin("bench", TINY, "-p", "4", "-n", "0", "-r", "1", "-o", "jsonl")[0])
        self.assertEqual(row["cpu_info"], json.loads(bobbin("kernels", "--json")[0])["cpu"])

    def test_jsonl(self):
        lines = bobbin(*self.ARGS, "-o", "jsonl")[0].decode().splitlines()
        self.assertEqual([json.loads(line)["n_gen"] for line in lines], [0, 4])

    def test_csv(self):
        rows = list(csv.DictReader(io.StringIO(bobbin(*self.ARGS, "-o", "csv")[0].decode())))
        self.assertEqual([row["n_prompt"] for row in rows], ["16", "0"])
        self.assertGreater(float(rows[0]["avg_ts"]), 0)

    def test_zero_skips(self):
        rows = json.loads(bobbin("bench", TINY, "-p", "0", "-n", "2", "-r", "1", "--json")[0])
        self.assertEqual([row["n_gen"] for row in rows], [2])
        self.sentence(bobbin("bench", TINY, "-p", "0", "-n", "0", status=2)[1], "nothing to measure")

    def test_small_batch_and_window(self):
        rows = json.loads(bobbin("bench", TINY_WINDOW, "-p", "20", "-n", "3", "-np", "5", "-ub", "3", "-d", "300",
                                 "-r", "1", "--json")[0])
        self.assertEqual([row["n_ubatch"] for row in rows], [3, 3])

    def test_bad_lists(self):
        for args in (("-p", "1,,2"), ("-p", "a"), ("-np", "0"), ("-d", "-1"), ("-o", "xml"), ("-r", "0")):
            with self.subTest(args):
                self.sentence(bobbin("bench", TINY, *args, status=2)[1], args[0])


class Roofline(Case):
    """bench/roofline, on what the emulator counts of one layer."""
    @unittest.skipUnless((BUILD / "kernels/cuda/libbobbin_simt_check.so").exists(), "this build has no emulator")
    def test_a_layer_of_decoding(self):
        command = [sys.executable, ROOT / "bench/roofline", BUILD, "--shape", "smollm2-135m", "--weights", "Q8_0",
                   "--depth", "1000", "--json"]
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
        found = json.loads(done.stdout)
        self.assertEqual(found["launches_per_layer"], 6)
        alone = found["launches_outside_graphs_per_step"]
        self.assertEqual(found["graph_launches_per_step"], 1)
        self.assertEqual(alone, 0)
        others = 5  # angles, embedding, rows, head, draw
        self.assertEqual(found["launches_per_step"], 30 * found["launches_per_layer"] + others + alone)
        self.assertLessEqual(found["bytes"], 1.05 * found["least_bytes"])
        self.assertGreaterEqual(found["bytes"], found["least_bytes"])
        products = [launch for launch in found["launches"] if launch["kernel"].startswith("matmul")]
        self.assertEqual(len(products), 5)
        self.assertGreaterEqual(found["operations"], found["least_operations"])
        for launch in products:
            self.assertLessEqual(launch["wavefronts"], 2 * launch["ideal_wavefronts"], launch)
