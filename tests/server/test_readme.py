# SPDX-License-Identifier: Apache-2.0
"""The README's examples of the server, as they stand there but for the port."""
import json
import re
import subprocess
import sys

from serving import REAL, ROOT, SECONDS, Case, with_clients


class Readme(Case):
    model, options = REAL, ("-c", "2048", "--log-level", "off")

    def blocks(self, pattern):
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        found = re.findall(rf"^```{pattern}```", text, re.M | re.S)
        return [block.replace("127.0.0.1:8000", f"127.0.0.1:{self.server.port}") for block in found]

    def test_curl(self):
        commands = re.findall(r"^curl .*?[^\\]$", "".join(self.blocks(r"\n(curl .*?)")), re.M | re.S)
        self.assertEqual(len(commands), 3)
        for command in commands:
            with self.subTest(command):
                done = subprocess.run(["bash", "-c", command + " --fail"], capture_output=True, timeout=SECONDS,
                                      check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                if " -N " in command:
                    self.assertTrue(done.stdout.endswith(b"data: [DONE]\n\n"))
                else:
                    self.assertIn(json.loads(done.stdout)["model"], "smollm2")

    @with_clients
    def test_python(self):
        blocks = self.blocks(r"python\n(.*?)")
        self.assertEqual(len(blocks), 1)
        done = subprocess.run([sys.executable, "-c", blocks[0]], capture_output=True, timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(len(done.stdout), 10)
