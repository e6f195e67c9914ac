#!/usr/bin/env python3
"""tools/test_summary.py counts cases, names what was skipped and what failed."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

SUMMARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "test_summary.py")

PASSED = '<testcase classname="A" name="one" status="run" result="completed"/>'
SKIPPED = ('<testcase classname="A" name="two" result="skipped">'
           '<skipped message="a_test.cc:3&#10;no avx2 here"/></testcase>')
FAILED = '<testcase classname="A" name="three"><failure message="1 is not 2"/></testcase>'


class TestSummary(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        self.events = []

    def tearDown(self):
        self.dir.cleanup()

    def path(self, name):
        return os.path.join(self.dir.name, name)

    def target(self, label, status, *shards):
        """A target of the run; a shard is its cases, or None: it wrote no XML."""
        for number, cases in enumerate(shards):
            outputs = []
            if cases is not None:
                path = self.path("%s %d.xml" % (label.replace("/", "_"), number))
                with open(path, "w", encoding="utf-8") as xml:
                    xml.write("<testsuites><testsuite>%s</testsuite></testsuites>" % cases)
                outputs.append({"name": "test.xml", "uri": "file://" + path.replace(" ", "%20")})
            self.events.append({"id": {"testResult": {"label": label, "shard": number}},
                                "testResult": {"testActionOutput": outputs}})
        self.events.append({"id": {"testSummary": {"label": label}},
                            "testSummary": {"overallStatus": status}})

    def run_summary(self, bazel_status):
        path = self.path("events.json")
        with open(path, "w", encoding="utf-8") as events:
            events.writelines(json.dumps(event) + "\n" for event in self.events)
        done = subprocess.run([sys.executable, SUMMARY, path, str(bazel_status)],
                              stdout=subprocess.PIPE, check=False)
        return done.returncode, done.stdout.decode().splitlines()

    def test_cases_of_all_shards_and_whole_scripts_are_counted(self):
        self.target("//a:a_test", "PASSED", PASSED, PASSED + SKIPPED)
        self.target("//a:script_test", "PASSED", "")
        self.assertEqual(self.run_summary(0), (0, [
            "skipped: //a:a_test A.two: no avx2 here", "3 passed, 0 failed"]))

    def test_what_failed_crashed_or_was_not_built_is_named(self):
        self.target("//a:a_test", "FAILED", PASSED + FAILED)
        self.target("//a:crashed_test", "FAILED", None)
        self.events.append({"id": {"targetCompleted": {"label": "//a:broken_test"}},
                            "completed": {"success": False}})
        self.assertEqual(self.run_summary(1), (1, [
            "failed: //a:a_test A.three", "failed: //a:crashed_test: FAILED",
            "failed: //a:broken_test: not built", "1 passed, 3 failed"]))

    def test_no_tests_or_a_failed_bazel_is_no_success(self):
        self.assertEqual(self.run_summary(4), (1, ["0 passed, 0 failed"]))
        self.target("//a:a_test", "PASSED", PASSED)
        self.assertEqual(self.run_summary(37), (1, [
            "failed: bazel test: exit status 37", "1 passed, 1 failed"]))


if __name__ == "__main__":
    unittest.main()
